# SPDX-License-Identifier: BSD-3-Clause
"""Each test of a fault is a job of its own, which may crash, hang or be killed without taking the test along."""

from __future__ import annotations

import sys
import textwrap

import pytest

from launch import Ended, Job, mpiexec


class Jobs:
    """Starts Python scripts on so many ranks (0: plain python, without a launcher)."""

    def __init__(self, folder) -> None:  # type: ignore[no-untyped-def]
        self._folder = folder
        self._started: list[Job] = []

    def start(self, ranks: int, script: str, *, env: dict[str, str] | None = None) -> Job:
        """Start a script and return the running job: see `Job.send`, `Job.wait_for`, `Job.wait`."""
        path = self._folder / f"script{len(self._started)}.py"
        path.write_text(textwrap.dedent(script))
        words = mpiexec(ranks) if ranks else []
        job = Job([*words, sys.executable, "-u", str(path)], env, cwd=str(self._folder))
        self._started.append(job)
        return job

    def __call__(
        self, ranks: int, script: str, *, env: dict[str, str] | None = None, timeout: float = 60, left_ok: bool = False
    ) -> Ended:
        """Run a script to its end; one that hangs for `timeout` seconds or leaves processes behind is a failure."""
        ended = self.start(ranks, script, env=env).wait(timeout)
        if ended.timed_out:
            pytest.fail(f"the job did not end within {timeout:g} s\n{ended.out}\n{ended.err}")
        if ended.left and not left_ok:
            pytest.fail(f"the job left processes behind: {ended.left}")
        return ended

    def end(self) -> None:
        for job in self._started:
            job.wait(0)


@pytest.fixture
def job(tmp_path):  # type: ignore[no-untyped-def]
    """Start jobs: `job(3, script)` gives `.code .out .err .seconds` of an ended one, `job.start` a running one."""
    jobs = Jobs(tmp_path)
    yield jobs
    jobs.end()
