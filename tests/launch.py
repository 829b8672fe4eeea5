# SPDX-License-Identifier: BSD-3-Clause
"""Starts a program (mostly mpiexec) that may hang, crash or leave processes behind, and always sees the end of it."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in a shell's background: programs would inherit it
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Unbuffered, each piece of a line is written by itself, and launchers mix the pieces of several ranks.
LINES = "import sys; sys.stdout.reconfigure(line_buffering=True, write_through=False)"
# Open MPI 5 sleeps for a second at each start over its part for fabrics, where there is none.
WITHOUT_FABRIC = {"OMPI_MCA_btl": "^ofi"}
SECONDS_TO_END = 5.0  # what a launcher gets to end its ranks, before they are killed


def mpiexec(ranks: int) -> list[str]:
    """Return the words that start so many ranks of what follows."""
    return [*shlex.split(os.environ.get("MPIEXEC") or "mpiexec"), "-n", str(ranks)]


def version_of_mpiexec() -> str:
    """Return what the mpiexec that starts jobs says of itself."""
    return subprocess.run([*mpiexec(1)[:-2], "--version"], capture_output=True, text=True).stdout


def is_open_mpi() -> bool:
    """Return whether Open MPI's mpiexec is what starts jobs; Open MPI 4 calls it OpenRTE's."""
    return any(name in version_of_mpiexec() for name in ("Open MPI", "OpenRTE"))


@dataclass
class Ended:
    """How a job ended: exit code (negative: signal), what it wrote, and whether it had to be killed."""

    code: int
    out: str
    err: str
    seconds: float
    timed_out: bool
    left: list[str]  # command lines of processes that outlived it, and were killed then


class Job:
    """A running program in a session of its own.

    Launchers put ranks into process groups and sessions of their own, so what belongs to a job is known by a variable
    in its environment, which children inherit. Nothing else is ever killed. Its temporary folder is its own: a killed
    mpiexec leaves its files there, and Open MPI's does not start where one with the same process id has left some.
    """

    def __init__(self, argv: Sequence[str], env: Mapping[str, str] | None = None, cwd: str | None = None) -> None:
        self._mark = f"NODESHARE_TEST_JOB_{uuid.uuid4().hex}=1"
        self._out = tempfile.TemporaryFile()  # not pipes: they stay open as long as anything is left of the job
        self._err = tempfile.TemporaryFile()
        self._temporary = tempfile.mkdtemp(prefix="job-")
        self._begin = time.monotonic()
        self.process = subprocess.Popen(
            argv,
            env={
                **WITHOUT_FABRIC,
                **os.environ,
                "TMPDIR": self._temporary,
                **(env or {}),
                **dict([self._mark.split("=")]),
            },
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=self._out,
            stderr=self._err,
            start_new_session=True,
        )

    def send(self, number: int) -> None:
        """Send a signal to the program itself."""
        self.process.send_signal(number)

    def wait_for(self, text: str, timeout: float = 30) -> bool:
        """Wait until its output holds `text`; False if it ends, or `timeout` seconds pass, without."""
        end = time.monotonic() + timeout
        while True:
            over = self.process.poll() is not None or time.monotonic() > end
            if text in self.output():
                return True
            if over:
                return False
            time.sleep(0.02)

    def output(self) -> str:
        """Return what it has written so far, errors last."""
        return self._read(self._out) + self._read(self._err)

    def wait(self, timeout: float, grace: float = 0.5) -> Ended:
        """Wait for its end, after `timeout` seconds (from now) enforce it; kill what is left of it `grace` s later."""
        timed_out = False
        try:
            try:
                self.process.wait(timeout)
            except subprocess.TimeoutExpired:
                timed_out = True
                self.process.terminate()
                self.process.wait(SECONDS_TO_END)
        except subprocess.TimeoutExpired:
            pass
        finally:  # also when the tests are interrupted
            seconds = time.monotonic() - self._begin
            left = self._kill_all(grace if self.process.poll() is not None else 0)
            code = self.process.wait()
            shutil.rmtree(self._temporary, ignore_errors=True)
        return Ended(code, self._read(self._out), self._read(self._err), seconds, timed_out, left)

    def _kill_all(self, grace: float) -> list[str]:
        end = time.monotonic() + grace
        while time.monotonic() < end and any(self._pids()):
            time.sleep(0.02)
        left = []
        for pid in self._pids():
            try:
                with open(f"/proc/{pid}/cmdline") as f:
                    left.append(f.read().replace("\0", " ").strip())
                os.kill(pid, signal.SIGKILL)
            except OSError:
                pass  # has just ended
        return left

    def _pids(self) -> Iterator[int]:
        mark = self._mark.encode()
        for name in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{name}/environ", "rb") as f:
                    if mark in f.read().split(b"\0"):
                        yield int(name)
            except OSError:
                pass  # has just ended, or is another user's

    @staticmethod
    def _read(file) -> str:  # type: ignore[no-untyped-def]
        return os.pread(file.fileno(), 1 << 30, 0).decode(errors="replace")


class Jobs:
    """Starts Python scripts on so many ranks (0: plain python, without a launcher)."""

    def __init__(self, folder: Path, launch: Callable[[int], list[str]] = mpiexec) -> None:
        self._folder = folder
        self._launch = launch
        self._started: list[Job] = []

    def start(self, ranks: int, script: str, *, env: Mapping[str, str] | None = None) -> Job:
        """Start a script and return the running job: see `Job.send`, `Job.wait_for`, `Job.wait`."""
        path = self._folder / f"script{len(self._started)}.py"
        begin = LINES if script.startswith("\n") else LINES + "\n"
        path.write_text(begin + textwrap.dedent(script))
        words = self._launch(ranks) if ranks else []
        job = Job([*words, sys.executable, str(path)], env, cwd=str(self._folder))
        self._started.append(job)
        return job

    def __call__(self, ranks: int, script: str, *, env: Mapping[str, str] | None = None, timeout: float = 60) -> Ended:
        """Run a script to its end; one that hangs for `timeout` seconds or leaves processes behind is a failure."""
        ended = self.start(ranks, script, env=env).wait(timeout)
        if ended.timed_out:
            raise AssertionError(f"the job did not end within {timeout:g} s\n{ended.out}\n{ended.err}")
        if ended.left:
            raise AssertionError(f"the job left processes behind: {ended.left}")
        return ended

    def end(self) -> None:
        for job in self._started:
            job.wait(0)
