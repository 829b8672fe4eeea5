#!/bin/bash
#SBATCH --job-name=weather
#SBATCH --nodes=1
#SBATCH --exclusive
#SBATCH --time=00:30:00
#
# Clear-sky irradiance over the globe for each hour of a year, on all cores, after setting up what is missing.
#
#   bash slurm/weather.sh             this machine, or the allocation it is started in
#   sbatch slurm/weather.sh           a node; `sbatch -N 2`, `-n 8`, `--ntasks-per-node=4` as you like
#
# Options go on to weather.py (see `bash slurm/weather.sh --help`); its exit code comes back.

# sbatch runs a copy of this file, elsewhere: then Slurm knows where the original is.
find_project() {
  local folder
  while read -r folder; do
    [ -f "$folder/environment.sh" ] && [ -f "$folder/weather.py" ] && (cd "$folder/.." && pwd) && return
  done < <(
    dirname "${BASH_SOURCE[0]}"
    if [ -n "${SLURM_JOB_ID:-}" ]; then
      scontrol show job "$SLURM_JOB_ID" 2>/dev/null | sed -n 's|^ *Command=\(.*/slurm\)/weather\.sh.*|\1|p'
      printf '%s\n' "$SLURM_SUBMIT_DIR/slurm" "$SLURM_SUBMIT_DIR"
    fi
  )
  echo "weather.sh: cannot find the project: submit it from the project's folder" >&2
  return 1
}

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

project=$(find_project) || exit 1
# shellcheck source=slurm/environment.sh
. "$project/slurm/environment.sh" || exit 1
# MPICH's mpiexec starts its helpers by srun; a PMIx that srun offers them would come between it and the ranks.
case ${MPIEXEC:-} in srun | srun\ * | */srun*) ;; *) export SLURM_MPI_TYPE=none ;; esac
# shellcheck disable=SC2086 # MPIEXEC may hold arguments
exec ${MPIEXEC:-mpiexec} -n "$(count_ranks)" python "$project/slurm/weather.py" "$@"
