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
for folder in "$(dirname "${BASH_SOURCE[0]}")" \
  "${SLURM_JOB_ID:+$(scontrol show job "$SLURM_JOB_ID" 2>/dev/null | sed -n 's|^ *Command=\(.*/slurm\)/weather\.sh.*|\1|p')}" \
  "${SLURM_SUBMIT_DIR:-.}/slurm" "${SLURM_SUBMIT_DIR:-.}"; do
  [ ! -f "$folder/launch.sh" ] || exec bash "$folder/launch.sh" weather "$@"
done
echo "weather.sh: cannot find the project: submit it from the project's folder" >&2
exit 1
