# SPDX-License-Identifier: BSD-3-Clause
"""The main job in a real Slurm, as its users start it: one command, on one node and on two."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from launch import Job, mpiexec

pytest.importorskip("pvlib")
pytest.importorskip("h5py")
pytest.importorskip("matplotlib")
pytest.importorskip("rich")

root = Path(__file__).resolve().parents[2]
FEW = ["--hours", "4000:4060", "--resolution", "10", "--output"]


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """What one rank finds."""
    folder = tmp_path_factory.mktemp("alone")
    ended = Job([sys.executable, str(root / "slurm/weather.py"), *FEW, str(folder)]).wait(120)
    assert ended.code == 0, ended.err
    return folder


def fresh():
    """Return the environment of a user who has made nodeshare's, but has not activated it."""
    env = {name: value for name, value in os.environ.items() if not name.startswith(("OMPI_", "PRTE_", "TMPDIR"))}
    env["PATH"] = ":".join(p for p in env["PATH"].split(":") if not p.startswith(str(root / ".venv")))
    return env


@pytest.mark.parametrize("launcher", ["mpiexec", "srun"])
@pytest.mark.parametrize("nodes", [1, 2])
def test_weather(slurm, alone, tmp_path, nodes, launcher):
    env = fresh()
    if launcher == "srun":
        about = subprocess.run([*mpiexec(1)[:-2], "--version"], capture_output=True, text=True).stdout
        env["MPIEXEC"] = "srun --mpi=pmix" if "Open MPI" in about else "srun --mpi=pmi2"
    words = [f"--nodes={nodes}", str(root / "slurm/weather.sh"), *FEW, str(tmp_path / "found"), "--check"]
    state, out = slurm.sbatch(*words, folder=tmp_path, env=env)
    assert state == "COMPLETED 0:0", out
    ranks = nodes * slurm.cpus
    assert f"{ranks}, {nodes}" in out and "equal to the last bit" in out, out
    for name in ("irradiance.npy", "irradiance.png"):
        assert (tmp_path / "found" / name).read_bytes() == (alone / name).read_bytes(), name
    picture = (alone / "irradiance.png").read_bytes()
    width, height = struct.unpack(">II", picture[16:24])
    assert picture.startswith(b"\x89PNG\r\n\x1a\n") and width > 1000 and height > 1000 and len(picture) > 100_000
