#!/usr/bin/env bash
# SPDX-License-Identifier: BSD-3-Clause
# Several "hosts" on one machine, for jobs that are to span nodes.
#
#   nodes.sh lacks              what this machine lacks for them, in words; nothing if they can be made
#   nodes.sh up N               make hosts node1..nodeN, removing first what there is of this name
#   nodes.sh exec HOST CMD...   run CMD in a host, in the folder that this is called in
#   nodes.sh [-OPTION] HOST WORDS...   likewise, a line for a shell: what launchers give to ssh
#   nodes.sh poweroff HOST      kill all that runs in a host, at once
#   nodes.sh unplug HOST        take its network away: what it has sent is not answered any more, as after a power cut
#   nodes.sh down               remove everything, also what a killed run has left
#
# A host is a set of namespaces: it has its own name, network (eth0, on a bridge), System V IPC, processes, /dev/shm and
# /tmp. So shared memory ends at the host, and messages between hosts go over TCP. The machine's cores, memory and other
# files are seen by all of them, as if on a shared file system; of /tmp only what RIG_SHARE names.
#
# Settings: RIG_NAME (8 letters at most; several names can be up at once), RIG_NET (first three numbers of its network:
# nodeK is .K, the machine .254), RIG_SHARE (folders under /tmp that the hosts share, with ':' between them).
set -euo pipefail

name=${RIG_NAME:-rig}
net=${RIG_NET:-10.77.0}
state=/run/nodeshare-$name
self=$(readlink -f "$0")
export RIG_NAME=$name RIG_NET=$net

die() { echo "nodes.sh: $*" >&2; exit 1; }

lacks() {
  local tool
  [ "$(id -u)" = 0 ] || { echo "root"; return; }
  for tool in ip:iproute2 unshare:util-linux nsenter:util-linux; do
    command -v "${tool%:*}" >/dev/null || { echo "${tool%:*} (Debian: ${tool#*:})"; return; }
  done
  unshare --mount --uts --ipc --net --pid --fork sh -c 'hostname x && mount -t tmpfs x /tmp && mount -t proc x /proc &&
    ip link add x0 type bridge && ip link add x1 type veth peer name x2' 2>/dev/null ||
    echo "the right to make namespaces, mounts and bridges (in a container: --privileged)"
}

# The first process of a host, as the machine numbers it. It is known by its last two words, as numbers are used again.
host_pid() {
  local pid
  read -r pid <"$state/$1.pid" && grep -qzx "$name-init" "/proc/$pid/cmdline" && echo "$pid"
} 2>/dev/null

enter() { # HOST CMD...
  local pid
  pid=$(host_pid "$1") || die "$1 is not up"
  # shellcheck disable=SC2016 # expanded in the host; nsenter arrives in /
  exec nsenter -t "$pid" -m -u -i -n -p -- sh -c 'cd "$0" 2>/dev/null; exec "$@"' "$PWD" "${@:2}"
}

# In the namespaces of a new host: make its mounts, say that it is up, then reap orphans for ever.
become_host() {
  local host=$1 pid folder shared i=0
  read -r pid _ </proc/self/stat # still the machine's /proc
  IFS=: read -ra shared <<<"${RIG_SHARE:-}"
  mount --make-rprivate /
  for folder in "${shared[@]}"; do # the new /tmp will hide it
    mkdir -p "$state/shared$((++i))"
    mount --rbind "$folder" "$state/shared$i"
  done
  mount -t tmpfs -o mode=1777 "$name" /dev/shm
  mount -t tmpfs -o mode=1777 "$name" /tmp
  i=0
  for folder in "${shared[@]}"; do
    mkdir -p "$folder"
    mount --move "$state/shared$((++i))" "$folder"
  done
  mount --bind "$state/hosts" /etc/hosts
  mount -t proc proc /proc
  hostname "$host"
  echo "$pid" >"$state/$host.new"
  mv "$state/$host.new" "$state/$host.pid"
  # shellcheck disable=SC2016 # bash as first process reaps when it is told of a child's end
  exec bash -c 'while :; do sleep 1000000 & wait $!; done' "$name-init" "$host"
}

up() {
  local n=$1 k host i
  down
  mkdir -p "$state"
  {
    echo "127.0.0.1 localhost"
    echo "$net.254 $(hostname)"
    for ((k = 1; k <= n; k++)); do echo "$net.$k node$k"; done
  } >"$state/hosts"
  ip link add "${name}br" type bridge
  ip addr add "$net.254/24" dev "${name}br"
  ip link set "${name}br" up
  for ((k = 1; k <= n; k++)); do
    setsid unshare --mount --uts --ipc --net --pid --fork "$self" become node$k "$name-init" \
      </dev/null >"$state/node$k.log" 2>&1 &
  done
  for ((k = 1; k <= n; k++)); do
    host=node$k
    for ((i = 0; i < 500; i++)); do ! host_pid $host >/dev/null || break; sleep 0.02; done
    host_pid $host >/dev/null || { cat "$state/$host.log" >&2; down; die "$host did not start"; }
    ip link add "${name}v$k" type veth peer name eth0 netns "$(host_pid $host)"
    ip link set "${name}v$k" master "${name}br" up
    nsenter -t "$(host_pid $host)" -n sh -c "ip link set lo up; ip addr add $net.$k/24 dev eth0; ip link set eth0 up"
  done
}

poweroff() { # with the first process of a host all others die
  local pid i
  pid=$(host_pid "$1") || return 0
  kill -KILL "$pid"
  for ((i = 0; i < 500; i++)); do host_pid "$1" >/dev/null || return 0; sleep 0.02; done
  die "$1 does not end"
}

unplug() { # on the machine's side: in the host eth0 stays, without a carrier
  ip link set "${name}v${1#node}" down
}

down() {
  local pid link i
  marked() { grep -lzx "[${name:0:1}]${name:1}-init" /proc/[0-9]*/cmdline 2>/dev/null | cut -d/ -f3; } # not grep itself
  for ((i = 0; i < 500; i++)); do # found without files, which a killed run may not have left
    [ -n "$(marked)" ] || break
    for pid in $(marked); do kill -KILL "$pid" 2>/dev/null || true; done
    sleep 0.02
  done
  for link in $(ip -o link show | sed -En "s/^[0-9]+: (${name}v[0-9]+|${name}br)[@:].*/\1/p"); do
    ip link del "$link" 2>/dev/null || true # the other end has taken it along
  done
  if [ -d "$state" ]; then # no rm -r: should anything still be mounted there, it stays whole
    rm -f "$state"/*.{pid,new,log} "$state/hosts"
    find "$state" -depth -type d -empty -delete
  fi
}

command=${1:-}
shift || true
case $command/$# in
  lacks/0) lacks ;;
  up/1) up "$1" ;;
  exec/0 | exec/1) die "exec HOST CMD..." ;;
  exec/*) enter "$@" ;;
  -*/* | node[1-9]*/*)
    set -- "$command" "$@"
    while [ "${1#-}" != "$1" ]; do shift; done
    enter "$1" sh -c "${*:2}"
    ;;
  poweroff/1) poweroff "$1" ;;
  unplug/1) unplug "$1" ;;
  down/0) down ;;
  become/2) become_host "$1" ;;
  *) sed -n '/^# Several/,/^set -e/{/^set -e/d;s/^# \{0,1\}//;p}' "$self" >&2; exit 2 ;;
esac
