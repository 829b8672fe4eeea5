# SPDX-License-Identifier: BSD-3-Clause
"""What `cmake --install` and `pip install` leave behind works by itself."""

import os
import re
import shlex
import shutil
import subprocess
import sys
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


def test_pip_installs_the_package_and_nothing_else(tmp_path):
    target = tmp_path / "target"
    options = ["--no-build-isolation", "--no-deps", f"--config-settings=cmake.define.MPI_C_COMPILER={mpicc()}"]
    run(sys.executable, "-m", "pip", "install", *options, "--target", target, root)
    names = {path.name for path in target.iterdir()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"nodeshare"}
    package = {path.name for path in (target / "nodeshare").iterdir()}
    assert "py.typed" in package
    # -S: without site-packages, where the editable install of these tests would win; what it needs is given by name.
    needed = [str(target), *(path for path in sys.path if path.endswith("site-packages"))]
    program = f"import sys; sys.path[:0] = {needed}; import nodeshare; print(nodeshare.__file__); nodeshare.zeros(3)"
    assert run(sys.executable, "-S", "-c", program, cwd=tmp_path).strip() == str(target / "nodeshare/__init__.py")
