#!/bin/bash
#SBATCH --job-name=trajectory
#SBATCH --nodes=1
#SBATCH --exclusive
#SBATCH --time=00:30:00
#
# All-against-all RMSD and RMSF of a molecular-dynamics trajectory, on all cores, after setting up what is missing.
#
#   bash slurm/trajectory.sh             this machine, or the allocation it is started in
#   sbatch slurm/trajectory.sh           a node; `sbatch -N 2`, `-n 8`, `--ntasks-per-node=4` as you like
#
# Options go on to trajectory.py (see `bash slurm/trajectory.sh --help`); its exit code comes back.

# sbatch runs a copy of this file, elsewhere: then Slurm knows where the original is.
for folder in "$(dirname "${BASH_SOURCE[0]}")" \
  "${SLURM_JOB_ID:+$(scontrol show job "$SLURM_JOB_ID" 2>/dev/null | sed -n 's|^ *Command=\(.*/slurm\)/trajectory\.sh.*|\1|p')}" \
  "${SLURM_SUBMIT_DIR:-.}/slurm" "${SLURM_SUBMIT_DIR:-.}"; do
  [ ! -f "$folder/launch.sh" ] || exec bash "$folder/launch.sh" trajectory "$@"
done
echo "trajectory.sh: cannot find the project: submit it from the project's folder" >&2
exit 1
