#!/usr/bin/env bash
# Makes the environment if need be and runs the tests: see `bash tests/run.sh --help`.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
case ${1:-} in --all-mpis | --mpi) exec bash tests/mpis.sh "$@" ;; esac
. slurm/environment.sh || exit 1
bash slurm/environment.sh test || exit 1
bash slurm/environment.sh trajectory # where it cannot be had, its tests are skipped
exec python tests/runner.py "$@"
