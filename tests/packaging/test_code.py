# SPDX-License-Identifier: BSD-3-Clause
"""What tools can say about the code without running it."""

import shutil
import sys
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
