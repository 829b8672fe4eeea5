#!/usr/bin/env bash
# Makes the environment if need be and runs the tests: see `bash tests/run.sh --help`.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
if [ "${1:-}" = --all-mpis ]; then
  exec bash tests/all_mpis.sh "${@:2}"
fi
. slurm/environment.sh || exit 1
exec python tests/runner.py "$@"
