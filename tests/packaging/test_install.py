# SPDX-License-Identifier: BSD-3-Clause
"""What `cmake --install` and `pip install` leave behind works by itself."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import version
from pathlib import Path

import pytest

from launch import Job, mpiexec

root = Path(__file__).resolve().parents[2]
build = Path(sys.prefix) / "build"


def run(*words, env=None, timeout=200, cwd=None):
    ended = Job([str(word) for word in words], env, cwd and str(cwd)).wait(timeout)
    if ended.code != 0:
        pytest.fail(f"{' '.join(map(str, words))}\n{ended.out[-8000:]}\n{ended.err[-8000:]}")
    return ended.out


def mpicc():
    """Return the MPI compiler that this build was made with."""
    cache = (build / "CMakeCache.txt").read_text()
    (line,) = (line for line in cache.splitlines() if line.startswith("MPI_C_COMPILER:"))
    return line.partition("=")[2]


BEFORE_INIT = """
#include <cstdio>
#include <nodeshare/nodeshare.hpp>
int main()
{
  try {
    nodeshare::shared_array<double> x(MPI_COMM_WORLD, {3});
  } catch (const nodeshare::error& what) {
    std::puts(what.what());
  }
}
"""
READMES = re.search(r"^```cpp\n(.*?)^```", (root / "README.md").read_text(), re.MULTILINE | re.DOTALL)[1]


@pytest.mark.parametrize(
    ("program", "ranks", "out"),
    [
        (None, 2, "sum 1000\n"),
        (READMES, 2, ""),
        (BEFORE_INIT, 0, "MPI has not been initialised: call MPI_Init or MPI_Init_thread before nodeshare\n"),
    ],
    ids=["the consumer", "the README's example", "a program without MPI_Init"],
)
def test_an_outside_cxx_project_finds_the_installed_library(tmp_path, program, ranks, out):
    prefix, source, made = tmp_path / "prefix", tmp_path / "source", tmp_path / "build"
    shutil.copytree(root / "tests/consumer", source)
    if program is not None:
        (source / "main.cpp").write_text(program)
    run("cmake", "--install", build, "--component", "cpp", "--prefix", prefix)
    definitions = [f"-DCMAKE_PREFIX_PATH={prefix}", f"-DMPI_C_COMPILER={mpicc()}"]
    run("cmake", "-G", "Ninja", "-S", source, "-B", made, *definitions)
    run("cmake", "--build", made)
    assert run(*(mpiexec(ranks) if ranks else []), made / "consumer") == out


def test_headers_stand_alone():
    headers = sorted((root / "include").rglob("*.hpp"))
    assert headers
    shown = subprocess.run([mpicc(), "-show"], capture_output=True, text=True, check=True).stdout
    flags = [f"-I{root}/include", "-DOMPI_SKIP_MPICXX", "-DMPICH_SKIP_MPICXX"]
    flags += [flag.replace("-I", "-isystem", 1) for flag in shlex.split(shown) if flag.startswith("-I")]
    compiler = [os.environ.get("CXX", "c++"), "-std=c++20", "-fsyntax-only", "-Wall", "-Wextra", "-Werror"]
    for header in headers:
        run(*compiler, *flags, "-x", "c++", "-include", header, os.devnull)


def listed(*words):
    """Return the files that git lists."""
    if not (root / ".git").exists() or not shutil.which("git"):
        pytest.skip("needs git and a checkout, to know what belongs to the project")
    return set(run("git", "-C", root, "ls-files", "--cached", "--others", "--exclude-standard", *words).splitlines())


# as `python -m build` and pip call it
BACKEND = "import sys, scikit_build_core.build as backend; backend.build_sdist(sys.argv[1])"


@pytest.fixture(scope="module")
def sdist(tmp_path_factory):
    """Return the folder into which a source distribution was unpacked."""
    folder = tmp_path_factory.mktemp("sdist")
    run(sys.executable, "-c", BACKEND, folder, cwd=root)
    (archive,) = folder.iterdir()
    assert re.fullmatch(r"nodeshare-[0-9.]+\.tar\.gz", archive.name)
    shutil.unpack_archive(archive, folder)
    return folder / archive.name[: -len(".tar.gz")]


def test_a_source_distribution_holds_the_project_and_nothing_else(sdist):
    here = {str(path.relative_to(sdist)) for path in sdist.rglob("*") if path.is_file()}
    assert here == listed() - listed(".ci", "slurm", "*.gitignore") | {"PKG-INFO"}


def pip(*words):
    run(sys.executable, "-m", "pip", *words, timeout=400)


@pytest.fixture(scope="module")
def options(tmp_path_factory):
    """Return how pip builds here: with the tools that are installed, each file once in all tests, and quickly."""
    settings = (
        f"cmake.define.MPI_C_COMPILER={mpicc()}",
        "cmake.define.CMAKE_CXX_FLAGS_RELEASE=-O0",
        f"build-dir={tmp_path_factory.mktemp('build')}",
    )
    return ["--no-build-isolation", "--no-deps", *(f"--config-settings={setting}" for setting in settings)]


@pytest.fixture
def fresh(tmp_path):
    """Return the interpreter of a venv without nodeshare, which finds what it needs in this environment."""
    run(sys.executable, "-m", "venv", "--without-pip", tmp_path / "venv")
    (site,) = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    (site / "needed.pth").write_text("\n".join(path for path in sys.path if path.endswith("site-packages")))
    return tmp_path / "venv" / "bin" / "python"


PROGRAM = """
import sys, nodeshare as ns
a = ns.zeros(10)
a.local += 1
a.allgather()
assert a.array.sum() == 10
if a.topology.rank == 0:
    print(a.topology.size, ns.__file__)
"""


def where_it_runs(python, folder):
    """Return the file of the package that two ranks of an interpreter import and use."""
    program = folder / "program.py"
    program.write_text(PROGRAM)
    # mpi4py looks for MPI in the venv that it is in, and this one has another
    libraries = os.pathsep.join([str(Path(mpicc()).parent.parent / "lib"), os.environ.get("LD_LIBRARY_PATH", "")])
    size, file = run(*mpiexec(2), python, program, cwd=folder, env={"LD_LIBRARY_PATH": libraries}).split()
    assert size == "2"
    return Path(file)


def test_a_wheel_of_it_holds_the_package_and_nothing_else_and_runs(sdist, options, fresh, tmp_path):
    pip("wheel", *options, "--wheel-dir", tmp_path, sdist)
    (wheel,) = tmp_path.glob("nodeshare-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = {path.removeprefix("python/") for path in listed("python/nodeshare")}
    assert sources < names and "nodeshare/py.typed" in sources
    (extension,) = names - sources
    assert re.fullmatch(r"nodeshare/_core\..*so", extension)
    pip("--python", fresh, "install", "--no-deps", wheel)
    assert where_it_runs(fresh, tmp_path).is_relative_to(tmp_path / "venv")


def test_an_editable_install_runs_from_its_source(sdist, options, fresh, tmp_path):
    pip("--python", fresh, "install", *options, "--editable", sdist)
    assert where_it_runs(fresh, tmp_path) == sdist / "python/nodeshare/__init__.py"


def test_pkg_config_says_how_to_compile_the_readme_s_example_also_when_all_was_moved(tmp_path):
    mpicxx = shutil.which("mpicxx", path=str(Path(mpicc()).parent))
    for name, there in (("pkg-config", shutil.which("pkg-config")), ("mpicxx", mpicxx)):
        if not there:
            pytest.skip(f"{name} is not installed")
    run("cmake", "--install", build, "--component", "cpp", "--prefix", tmp_path / "prefix")
    prefix = (tmp_path / "prefix").rename(tmp_path / "elsewhere")
    (folder,) = (path.parent for path in prefix.rglob("nodeshare.pc"))
    env = {"PKG_CONFIG_PATH": str(folder)}
    assert run("pkg-config", "--modversion", "nodeshare", env=env) == version("nodeshare") + "\n"
    flags, libraries = (shlex.split(run("pkg-config", word, "nodeshare", env=env)) for word in ("--cflags", "--libs"))
    source, made = tmp_path / "main.cpp", tmp_path / "program"
    source.write_text(READMES)
    run(mpicxx, *flags, source, *libraries, "-o", made)
    assert run(*mpiexec(2), made) == ""
