# SPDX-License-Identifier: BSD-3-Clause
"""What tools can say about the code without running it."""

import json
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from launch import Job

root = Path(__file__).resolve().parents[2]


def check(*words):
    ended = Job([sys.executable, "-m", *words], cwd=str(root)).wait(200)
    if ended.code != 0:
        pytest.fail(ended.out + ended.err, pytrace=False)


def test_the_package_and_a_user_s_program_are_typed():
    check("mypy", "python/nodeshare", "tests/packaging/user_program.py")


def test_ruff_has_nothing_to_say():
    if not shutil.which("ruff"):
        pytest.skip("ruff is not installed")
    check("ruff", "check", "--no-cache", "python", "slurm", "tests")


def test_ruff_would_format_nothing():
    if not shutil.which("ruff"):
        pytest.skip("ruff is not installed")
    check("ruff", "format", "--check", "--no-cache", "python", "slurm", "tests")


def test_clang_tidy_has_nothing_to_say():
    program = shutil.which("clang-tidy")
    version = program and re.search(r"version (\d+)", subprocess.check_output([program, "--version"], text=True))
    if not version or int(version[1]) < 16:
        pytest.skip("clang-tidy of 16 or later is not installed (pip install clang-tidy)")
    database = Path(sys.prefix) / "build"
    entries = json.loads((database / "compile_commands.json").read_text())
    # where pip has built, a few files that include several of the sources
    files = [Path(entry["file"]) for entry in entries]
    sources = [
        str(f)
        for f in files
        if "tests" not in f.resolve().relative_to(root).parts and not f.name.startswith("cmake_pch")
    ]
    assert sources
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        words = [[program, "--quiet", "-p", str(database), source] for source in sources]
        ended = list(pool.map(lambda one: Job(one, cwd=str(root)).wait(200), words))
    said = [one.out + one.err for one in ended if one.code != 0]
    if said:
        pytest.fail("\n".join(said), pytrace=False)
