# SPDX-License-Identifier: BSD-3-Clause
"""The jobs in a real Slurm, as their users start them: one command, on one node and on two."""

import os
import re
import struct
import sys
import time
from pathlib import Path
from typing import NamedTuple

import pytest

from launch import Job, is_open_mpi

root = Path(__file__).resolve().parents[2]


class Program(NamedTuple):
    """A program of slurm/, some options that make it quick, what it writes, and what --check says."""

    name: str
    needs: list[str]
    options: list[str]
    results: list[str]
    checked: str


PROGRAMS = [
    Program(
        name="weather",
        needs=["pvlib", "h5py", "matplotlib", "rich"],
        options=["--hours", "4000:4060", "--resolution", "10"],
        results=["irradiance.npy", "irradiance.png"],
        checked="equal to the last bit",
    ),
    Program(
        name="trajectory",
        needs=["MDAnalysis", "MDAnalysisTests", "matplotlib", "rich"],
        options=["--repeat", "2"],
        results=["rmsd.npy", "rmsf.npy", "trajectory.png"],
        checked="are MDAnalysis' own",
    ),
]


@pytest.fixture(scope="module", params=PROGRAMS, ids=[program.name for program in PROGRAMS])
def program(request):
    """Skip a program that lacks something."""
    for package in request.param.needs:
        pytest.importorskip(package)
    return request.param


@pytest.fixture(scope="module")
def alone(program, tmp_path_factory):
    """What one rank finds."""
    folder = tmp_path_factory.mktemp("alone")
    script = str(root / f"slurm/{program.name}.py")
    ended = Job([sys.executable, script, *program.options, "--output", str(folder)]).wait(120)
    assert ended.code == 0, ended.err
    return folder


LOOP = """
import nodeshare as ns

a = ns.zeros((1000, 1000))
for step in range(1_000_000):
    a.bcast()
    if step == 20 and a.topology.rank == 0:
        print("under way", flush=True)
"""


def pmi():
    """Return the words that let Slurm start ranks."""
    return "srun --mpi=pmix" if is_open_mpi() else "srun --mpi=pmi2"


def fresh():
    """Return the environment of a user who has made nodeshare's, but has not activated it."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OMPI_", "PRTE_", "TMPDIR"))}
    env["PATH"] = ":".join(p for p in env["PATH"].split(":") if not p.startswith(str(root / ".venv")))
    return env


@pytest.mark.parametrize("launcher", ["mpiexec", "srun"])
@pytest.mark.parametrize("nodes", [1, 2])
def test_a_job(slurm, program, alone, tmp_path, nodes, launcher):
    env = fresh()
    if launcher == "srun":
        env["MPIEXEC"] = pmi()
    words = [str(root / f"slurm/{program.name}.sh"), *program.options, "--output", str(tmp_path / "found"), "--check"]
    state, out = slurm.sbatch(f"--nodes={nodes}", *words, folder=tmp_path, env=env)
    assert state == "COMPLETED 0:0", out
    ranks = nodes * slurm.cpus
    assert f"{ranks}, {nodes}" in out and program.checked in out, out
    for name in program.results:
        assert (tmp_path / "found" / name).read_bytes() == (alone / name).read_bytes(), name
    picture = (alone / program.results[-1]).read_bytes()
    width, height = struct.unpack(">II", picture[16:24])
    assert picture.startswith(b"\x89PNG\r\n\x1a\n") and width > 1000 and height > 1000 and len(picture) > 100_000


OF_MPICH = "^mpich_shm_"  # the page of its own that it leaves when it is killed


@pytest.fixture
def losing(hosts, slurm):
    """Lose a host by `losing("poweroff", "node2")`; it is there again after the test."""
    yield lambda how, host: hosts.script("nodes.sh", how, host)
    hosts.up()
    slurm.start()


@pytest.mark.parametrize(("launcher", "how"), [("mpiexec", "poweroff"), ("srun", "unplug")])
def test_a_lost_node_ends_the_job(hosts, slurm, losing, tmp_path, launcher, how):
    (tmp_path / "loop.py").write_text(LOOP)
    script = tmp_path / "job.sh"
    words = pmi() if launcher == "srun" else "SLURM_MPI_TYPE=none mpiexec"  # as launch.sh does, for MPICH
    script.write_text(f"#!/bin/bash\n. {root}/slurm/environment.sh >&2 && {words} python {tmp_path}/loop.py\n")
    state, out = slurm.sbatch(
        *("--nodes=2", "--ntasks-per-node=2", "--no-requeue", str(script)),
        folder=tmp_path,
        env={**fresh(), "OMPI_MCA_oob_tcp_keepalive_time": "2", "PRTE_MCA_oob_tcp_keepalive_time": "2"},
        timeout=60,
        once=("under way", lambda: losing(how, "node2")),
    )
    # Open MPI's mpiexec ends with code 0 when it has lost a host
    assert re.match("NODE_FAIL|FAILED" if launcher == "srun" else "NODE_FAIL|FAILED|COMPLETED", state), (state, out)
    told = "node2" in out or "NODE FAILURE" in out
    assert told or (not is_open_mpi() and "process manager error" in out), out  # which is all that MPICH's mpiexec says
    end = time.monotonic() + 20
    while there := hosts.run("node1", "sh", "-c", f"pgrep -fa [l]oop.py; ls /dev/shm | grep -v {OF_MPICH}; true"):
        assert time.monotonic() < end, there
        time.sleep(0.2)
