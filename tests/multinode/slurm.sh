#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# A real Slurm over the hosts of nodes.sh, for tests of batch jobs: no systemd, no cgroups, no database.
#
#   slurm.sh lacks       the Debian packages that are missing, if any
#   slurm.sh start N     nodes node1..nodeN, which are up already; the controller runs on the machine itself
#   slurm.sh stop        end its daemons and remove its state; jobs and the hosts' daemons end with the hosts
#   slurm.sh conf        path of its configuration: what SLURM_CONF has to be for sbatch and all others
#
# All lies in /run/nodeshare-$RIG_NAME-slurm, with a munge daemon, a key and ports of its own: nothing in /etc is read or
# written, and a Slurm that the machine has stays untouched.
#
# Settings: RIG_NAME and RIG_NET as in nodes.sh, RIG_PORT (the first of two ports), RIG_CPUS (processors that each node
# claims, whatever the machine has).
set -euo pipefail

name=${RIG_NAME:-rig}
net=${RIG_NET:-10.77.0}
port=${RIG_PORT:-16817}
cpus=${RIG_CPUS:-2}
state=/run/nodeshare-$name-slurm
nodes=$(dirname "$(readlink -f "$0")")/nodes.sh
export RIG_NAME=$name RIG_NET=$net SLURM_CONF=$state/slurm.conf
PATH=$PATH:/usr/sbin:/sbin

die() { echo "slurm.sh: $*" >&2; exit 1; }

lacks() {
  local pair missing=()
  for pair in slurmctld:slurmctld slurmd:slurmd sbatch:slurm-client munged:munge; do
    command -v "${pair%:*}" >/dev/null || missing+=("${pair#*:}")
  done
  # no package of Slurm asks for it, yet Debian's `srun --mpi=pmix` opens libpmix.so
  ! command -v dpkg >/dev/null || compgen -G "/usr/lib/*/pmix2/lib/libpmix.so" >/dev/null || missing+=(libpmix-dev)
  echo "${missing[@]}"
}

configuration() { # N
  local k
  cat <<CONF
ClusterName=$name
SlurmctldHost=$(hostname -s)($net.254)
SlurmctldPort=$port
SlurmdPort=$((port + 1))
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket=$state/munge/socket
StateSaveLocation=$state/state
SlurmdSpoolDir=$state/spool/%n
SlurmctldPidFile=$state/slurmctld.pid
SlurmdPidFile=$state/slurmd.%n.pid
SlurmctldLogFile=$state/log/slurmctld.log
SlurmdLogFile=$state/log/slurmd.%n.log
MpiDefault=pmix
MailProg=/bin/true
# no cgroups: processes are found by descent
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
# a node may claim more than the machine has
SlurmdParameters=config_overrides
# quick turns, and patience with a busy machine
SchedulerParameters=batch_sched_delay=0,sched_interval=2,bf_interval=2
KillWait=5
MessageTimeout=30
# a node that does not answer is soon given up
SlurmdTimeout=5
ReturnToService=2
CONF
  for ((k = 1; k <= $1; k++)); do echo "NodeName=node$k NodeAddr=$net.$k CPUs=$cpus State=UNKNOWN"; done
  echo "PartitionName=test Nodes=ALL Default=YES DefaultTime=10 MaxTime=60 State=UP"
}

start() {
  local n=$1 k i
  stop
  mkdir -p "$state"/{state,spool,log,munge}
  chmod 755 "$state" "$state"/{spool,log,munge} # munged insists
  chmod 700 "$state/state"
  # slurmd would not start where it finds no cgroups, nor two versions of them; version 1 it looks at when it uses it
  echo CgroupPlugin=cgroup/v1 >"$state/cgroup.conf"
  (umask 077 && head -c 128 /dev/urandom >"$state/munge.key")
  configuration "$n" >"$SLURM_CONF"
  {
    munged --key-file="$state/munge.key" --socket="$state/munge/socket" --pid-file="$state/munged.pid" \
      --log-file="$state/log/munged.log" --seed-file="$state/munged.seed" &&
      slurmctld &&
      for ((k = 1; k <= n; k++)); do "$nodes" exec node$k slurmd || break; done
  } </dev/null >"$state/log/start.log" 2>&1 # they go into the background and must not keep what is open here
  for ((i = 0; i < 300; i++)); do
    [ "$(timeout 20 sinfo -h -N -o %T 2>/dev/null | grep -cx idle)" != "$n" ] || return 0
    sleep 0.1
  done
  tail -n 8 "$state"/log/*.log >&2
  die "its nodes did not come up"
}

stop() {
  local pid i
  daemons() { # by what is in their environment: a killed run may leave no files
    # shellcheck disable=SC2013
    for pid in $(grep -lz "^SLURM_CONF=$SLURM_CONF\$" /proc/[0-9]*/environ 2>/dev/null | cut -d/ -f3); do
      case $(cat "/proc/$pid/comm" 2>/dev/null) in slurm* | munged) echo "$pid" ;; esac
    done
  }
  for ((i = 0; i < 100; i++)); do
    [ -n "$(daemons)" ] || break
    for pid in $(daemons); do kill "-$([ $i -lt 20 ] && echo TERM || echo KILL)" "$pid" 2>/dev/null || true; done
    sleep 0.1
  done
  rm -rf "$state"
}

command=${1:-}
shift || true
case $command/$# in
  lacks/0) lacks ;;
  start/1) start "$1" ;;
  stop/0) stop ;;
  conf/0) echo "$SLURM_CONF" ;;
  *) sed -n '/^# A real/,/^set -e/{/^set -e/d;s/^# \{0,1\}//;p}' "$0" >&2; exit 2 ;;
esac
