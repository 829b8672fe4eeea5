# SPDX-License-Identifier: BSD-3-Clause
"""Each test of a fault is a job of its own, which may crash, hang or be killed without taking the test along."""

import pytest

from launch import Jobs


@pytest.fixture
def job(tmp_path):  # type: ignore[no-untyped-def]
    """Start jobs: `job(3, script)` gives `.code .out .err .seconds` of an ended one, `job.start` a running one."""
    jobs = Jobs(tmp_path)
    yield jobs
    jobs.end()
