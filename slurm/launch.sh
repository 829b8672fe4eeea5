#!/bin/bash
# Runs a program of this folder on all cores, after setting up what is missing: what the batch scripts here end in.
#
#   bash slurm/launch.sh NAME OPTIONS...     NAME.py on this machine, or in the allocation it is started in
#
# Its exit code comes back.

count_ranks() {
  if [ -n "${SLURM_TASKS_PER_NODE:-}" ]; then
    echo $(($(sed 's/(x\([0-9]*\))/*\1/g; s/,/+/g' <<<"$SLURM_TASKS_PER_NODE"))) # "4(x2),3" is 4*2+3
  else
    # Hardware threads share a core and gain little here, so one rank a core of those that we may use.
    python 2>/dev/null <<'PY' || nproc
import os
cores = {open(f"/sys/devices/system/cpu/cpu{n}/topology/thread_siblings_list").read() for n in os.sched_getaffinity(0)}
print(len(cores))
PY
  fi
}

folder=$(cd "$(dirname "$0")" && pwd)
program=$1
shift
settings=$(bash "$folder/environment.sh" --print "$program") || exit 1
eval "$settings"
# MPICH's mpiexec starts its helpers by srun; a PMIx that srun offers them would come between it and the ranks.
case ${MPIEXEC:-} in srun | srun\ * | */srun*) ;; *) export SLURM_MPI_TYPE=none ;; esac
# shellcheck disable=SC2086 # MPIEXEC may hold arguments
exec ${MPIEXEC:-mpiexec} -n "$(count_ranks)" python "$folder/$program.py" "$@"
