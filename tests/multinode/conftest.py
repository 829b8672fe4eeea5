# SPDX-License-Identifier: BSD-3-Clause
"""Hosts on this machine, each with its own /dev/shm and network, and a Slurm over them: see nodes.sh, slurm.sh.

They are made for one session of pytest, and removed at its end. Where something is missing for them, tests are skipped.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import pytest

from hosts import CPUS, HOSTS, Hosts, hosts_lack, made_hosts
from launch import Jobs

INSTALLED = pytest.StashKey[str]()
signal.signal(signal.SIGTERM, signal.default_int_handler)  # then too the hosts are removed


class Slurm:
    """A Slurm whose nodes are the hosts."""

    cpus = CPUS  # of a node

    def __init__(self, hosts: Hosts) -> None:
        self._hosts = hosts
        self.env = {"SLURM_CONF": hosts.script("slurm.sh", "conf")}

    def _ask(self, *words: str) -> str:
        return subprocess.run(words, env={**os.environ, **self.env}, capture_output=True, text=True, check=True).stdout

    def start(self) -> None:
        """Start its daemons, those of the hosts included, after ending what there is of them."""
        self._hosts.script("slurm.sh", "start", str(len(HOSTS)))

    def sbatch(
        self,
        *words: str,
        folder: Path,
        env: Mapping[str, str],
        timeout: float = 120,
        once: tuple[str, Callable[[], object]] | None = None,
    ) -> tuple[str, str]:
        """Submit a job from a folder and wait for its end; return how Slurm says it ended, and what it wrote.

        `once` it has written some text, a function is called.
        """
        env = {**env, **self.env}
        out = folder / "job.out"
        out.touch()
        submit = ["sbatch", "--parsable", f"--output={out}", *words]
        job = subprocess.run(submit, cwd=folder, env=env, capture_output=True, text=True)
        assert job.returncode == 0, job.stderr
        end = time.monotonic() + timeout
        while True:
            found = self._ask("scontrol", "-o", "show", "job", job.stdout.strip())
            state = " ".join(re.findall(r" (?:JobState|ExitCode)=(\S+)", found))
            if not re.match("PENDING|CONFIGURING|RUNNING|COMPLETING", state):
                return state, out.read_text()
            if once and once[0] in out.read_text():
                once, called = None, once[1]
                called()
            if time.monotonic() > end:
                self._ask("scancel", job.stdout.strip())
                raise AssertionError(f"the job did not end within {timeout:g} s: {state}\n{out.read_text()}")
            time.sleep(0.1)


def lack(what: str) -> NoReturn:
    pytest.skip(f"tests on several hosts need {what}")


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Make the hosts; they share the project, pytest's temporary folder, and the MPI's."""
    if missing := hosts_lack():
        lack(missing)
    with made_hosts(tmp_path_factory.getbasetemp()) as hosts:
        yield hosts


@pytest.fixture
def job(hosts: Hosts, tmp_path: Path) -> Iterator[Jobs]:
    """Start jobs over the hosts: `job(3, script)` gives `.code .out .err .seconds`, `job.start` a running one."""
    jobs = Jobs(tmp_path, hosts.mpiexec)
    yield jobs
    jobs.end()


@pytest.fixture(scope="session")
def slurm(hosts: Hosts, pytestconfig: pytest.Config) -> Iterator[Slurm]:
    """Start Slurm on the hosts; as root on Debian install what is missing of it, and say so."""
    missing = hosts.script("slurm.sh", "lacks")
    if missing and shutil.which("apt-get"):
        pytestconfig.stash[INSTALLED] = missing
        apt = "export DEBIAN_FRONTEND=noninteractive; apt-get -qq update; apt-get -qqy install --no-install-recommends "
        subprocess.run(["sh", "-c", apt + missing], stdin=subprocess.DEVNULL, capture_output=True)
        missing = hosts.script("slurm.sh", "lacks")
    if missing:
        lack(f"Slurm (Debian: {missing})")
    slurm = Slurm(hosts)
    try:
        slurm.start()
        yield slurm
    finally:
        hosts.script("slurm.sh", "stop")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what was installed; of suites that have run on the hosts count the cases, not the tests that started them."""
    if missing := terminalreporter.config.stash.get(INSTALLED, ""):
        terminalreporter.write_line(f"nodeshare: installing by apt-get: {missing}")
    passed = terminalreporter.stats.get("passed", [])
    for report in list(passed):
        cases = dict(report.user_properties).get("cases", 1)
        passed += [pytest.TestReport(report.nodeid, report.location, {}, "passed", None, "call")] * (cases - 1)
