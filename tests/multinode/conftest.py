# SPDX-License-Identifier: BSD-3-Clause
"""Hosts on this machine, each with its own /dev/shm and network, and a Slurm over them: see nodes.sh, slurm.sh.

They are made for one session of pytest, and removed at its end. Where something is missing for them, tests are skipped.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import pytest

from launch import Jobs, mpiexec

here = Path(__file__).resolve().parent
root = here.parents[1]
HOSTS = ("node1", "node2", "node3")

signal.signal(signal.SIGTERM, signal.default_int_handler)  # then too the hosts are removed


class Hosts:
    """The hosts `node1`, `node2` and `node3`; jobs run on the first two, unless told otherwise."""

    def __init__(self, number: int, shared: list[Path]) -> None:
        self.net = f"10.77.{number}"
        self._settings = {
            "RIG_NAME": f"rig{number}",
            "RIG_NET": self.net,
            "RIG_PORT": str(16817 + 2 * number),
            "RIG_CPUS": str(Slurm.cpus),
            "RIG_SHARE": ":".join(str(folder) for folder in shared if Path("/tmp") in folder.parents),
        }

    def script(self, name: str, *words: str) -> str:
        """Run nodes.sh or slurm.sh; return what it writes."""
        done = subprocess.run(
            [here / name, *words],
            env={**os.environ, **self._settings},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            timeout=120,
            text=True,
        )
        if done.returncode != 0:
            raise AssertionError(f"{name} {' '.join(words)}:\n{done.stdout}")
        return done.stdout.strip()

    def run(self, host: str, *words: str) -> str:
        """Run a command in a host; return what it writes."""
        return self.script("nodes.sh", "exec", host, *words)

    def up(self) -> None:
        """Make the hosts, removing first what there is of them."""
        self.script("nodes.sh", "up", str(len(HOSTS)))

    def mpiexec(self, ranks: int, slots: Sequence[int] = (), cyclic: bool = False) -> list[str]:
        """Return the words that start so many ranks of what follows.

        `slots` tells how many go to each host (as many to node1 as to node2, or one more); with `cyclic` they go to the
        hosts in turn (to two hosts, or as many as there are slots).
        """
        ssh, net = str(here / "nodes.sh"), f"{self.net}.0/24"
        slots = slots or ((1, 1) if cyclic else ((ranks + 1) // 2, ranks // 2))
        order = "node" if cyclic else "slot"
        env = {
            **self._settings,
            "TMPDIR": "/tmp",  # of each host
            # Open MPI: started how, talking through what; bound to no core, since the hosts have the same ones
            **{"OMPI_MCA_pml": "ob1", "OMPI_MCA_btl_tcp_if_include": net, "OMPI_MCA_mpi_yield_when_idle": "1"},
            # its version 5
            **{"PRTE_MCA_plm": "ssh", "PRTE_MCA_plm_ssh_agent": ssh, "PRTE_MCA_plm_ssh_no_tree_spawn": "1"},
            **{"PRTE_MCA_prte_if_include": net, "PRTE_MCA_hwloc_default_binding_policy": "none"},
            "PRTE_MCA_rmaps_default_mapping_policy": f"{order}:oversubscribe",
            # its version 4
            **{"OMPI_MCA_plm": "rsh", "OMPI_MCA_plm_rsh_agent": ssh, "OMPI_MCA_plm_rsh_no_tree_spawn": "1"},
            **{"OMPI_MCA_oob_tcp_if_include": net, "OMPI_MCA_hwloc_base_binding_policy": "none"},
            **{"OMPI_MCA_rmaps_base_mapping_policy": order, "OMPI_MCA_rmaps_base_oversubscribe": "1"},
            # MPICH and its kin
            **{"HYDRA_LAUNCHER": "rsh", "HYDRA_LAUNCHER_EXEC": ssh},
        }
        where = ",".join(f"{host}:{count}" for host, count in zip(HOSTS, slots))
        return ["env", *(f"{key}={value}" for key, value in env.items()), *mpiexec(ranks), "-host", where]


class Slurm:
    """A Slurm whose nodes are the hosts."""

    cpus = 2  # of a node

    def __init__(self, hosts: Hosts) -> None:
        self.env = {"SLURM_CONF": hosts.script("slurm.sh", "conf")}

    def _ask(self, *words: str) -> str:
        return subprocess.run(words, env={**os.environ, **self.env}, capture_output=True, text=True, check=True).stdout

    def sbatch(self, *words: str, folder: Path, env: Mapping[str, str], timeout: float = 120) -> tuple[str, str]:
        """Submit a job from a folder and wait for its end; return how Slurm says it ended, and what it wrote."""
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
            if time.monotonic() > end:
                self._ask("scancel", job.stdout.strip())
                raise AssertionError(f"the job did not end within {timeout:g} s: {state}\n{out.read_text()}")
            time.sleep(0.1)


def lack(what: str) -> NoReturn:
    pytest.skip(f"tests on several hosts need {what}")


@pytest.fixture(scope="session")
def hosts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hosts]:
    """Make the hosts; they share the project, pytest's temporary folder, and the MPI's."""
    missing = subprocess.run([here / "nodes.sh", "lacks"], capture_output=True, text=True, check=True).stdout.strip()
    if missing:
        lack(missing)
    with socket.socket(socket.AF_UNIX) as lock:
        for number in range(200):  # another run on this machine has its own
            try:
                lock.bind(f"\0nodeshare-rig{number}")
                break
            except OSError:
                pass
        launcher = Path(shutil.which(mpiexec(1)[0]) or "/").resolve()
        hosts = Hosts(number, [root, tmp_path_factory.getbasetemp(), launcher.parent.parent])
        try:
            hosts.script("slurm.sh", "stop")  # what a killed run may have left
            hosts.up()
            yield hosts
        finally:
            hosts.script("nodes.sh", "down")


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
        with pytestconfig.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
            print(f"\nnodeshare: installing by apt-get: {missing}", flush=True)
        apt = "export DEBIAN_FRONTEND=noninteractive; apt-get -qq update; apt-get -qqy install --no-install-recommends "
        subprocess.run(["sh", "-c", apt + missing], stdin=subprocess.DEVNULL, capture_output=True)
        missing = hosts.script("slurm.sh", "lacks")
    if missing:
        lack(f"Slurm (Debian: {missing})")
    try:
        hosts.script("slurm.sh", "start", str(len(HOSTS)))
        yield Slurm(hosts)
    finally:
        hosts.script("slurm.sh", "stop")


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Count the cases of a suite that has run on the hosts, not the one test that started it."""
    passed = terminalreporter.stats.get("passed", [])
    for report in list(passed):
        cases = dict(report.user_properties).get("cases", 1)
        passed += [pytest.TestReport(report.nodeid, report.location, {}, "passed", None, "call")] * (cases - 1)
