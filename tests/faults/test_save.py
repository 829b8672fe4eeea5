# SPDX-License-Identifier: BSD-3-Clause
"""A save that ends in the middle: the file of that name is whole, the old one or the new one."""

import os
import random
import re
import signal
import subprocess
import time

import numpy as np
import pytest

from launch import Jobs, mpiexec

ROWS = (24 << 20) // 8

SCRIPT = f"""
import os, sys
import nodeshare as ns

t = ns.topology()
a = ns.zeros({ROWS})
print(f"rank {{t.rank}} is process {{os.getpid()}}\\n", end="", flush=True)
for step in range(1_000_000):
    a.local[...] = step
    ns.save("x.npy", a)
    if step == 0:
        print("saved once\\n", end="", flush=True)
"""


@pytest.mark.parametrize("who", [0, 1, "all"])
def test_a_kill_in_the_middle_leaves_a_whole_file(tmp_path, monkeypatch, job, who):
    monkeypatch.chdir(tmp_path)
    running = job.start(3, SCRIPT)
    assert running.wait_for("saved once"), running.output()
    pids = {int(rank): int(pid) for rank, pid in re.findall(r"rank (\d) is process (\d+)\n", running.output())}
    moment = random.uniform(0, 0.2)
    time.sleep(moment)
    for victim in pids if who == "all" else [who]:
        os.kill(pids[victim], signal.SIGKILL)
    ended = running.wait(20, grace=10)
    assert not ended.timed_out and not ended.left and ended.code != 0, f"killed after {moment} s: {ended}"
    values = np.load(tmp_path / "x.npy")
    assert values.shape == (ROWS,) and (values == values[0]).all(), f"killed after {moment} s: {values}"
    for name in os.listdir(tmp_path):
        assert name == "x.npy" or re.fullmatch(r"\.x\.npy\.nodeshare-[0-9a-f]{16}|script0\.py", name), name


@pytest.fixture
def job_on(tmp_path):  # type: ignore[no-untyped-def]
    """Run a script in `disk`, a file system of its own that a shell command makes there."""
    disk = tmp_path / "disk"
    disk.mkdir()
    started = []

    def run(setup, ranks, script):
        tried = subprocess.run(["unshare", "-m", "sh", "-c", f"cd {disk}; {setup}"], capture_output=True, text=True)
        if tried.returncode != 0:
            pytest.skip(f"no file system of a job's own can be mounted here: {tried.stderr.strip()}")
        shell = f'cd {disk}; {setup}; cd {disk} && exec "$@"'
        jobs = Jobs(tmp_path, lambda ranks: ["unshare", "-m", "sh", "-c", shell, "sh", *mpiexec(ranks)])
        started.append(jobs)
        return jobs(ranks, script)

    yield run
    for jobs in started:
        jobs.end()


FULL = """
import os
import nodeshare as ns
import numpy as np
from mpi4py import MPI

old = ns.full(1 << 17, 3.0)
ns.save("x.npy", old)
a = ns.full(1 << 20, 4.0)
try:
    ns.save("x.npy", a)
except (OSError, ns.PeerError) as error:
    assert "x.npy: No space left on device" in str(error) or error.errno == 28, error
    print(f"told {type(error).__name__}\\n", end="", flush=True)
MPI.COMM_WORLD.Barrier()
assert os.listdir(".") == ["x.npy"], os.listdir(".")
assert (np.load("x.npy") == 3).all()
old.sync()
ns.save("x.npy", ns.full(1 << 17, 5.0))
assert (np.load("x.npy") == 5).all()
print("well\\n", end="", flush=True)
"""


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_full_disk_is_told_to_all_and_the_old_file_stays(job_on, ranks):
    ended = job_on("mount -t tmpfs -o size=4m tmpfs .", ranks, FULL)
    assert ended.code == 0, ended.out + ended.err
    assert ended.out.count("told") == ended.out.count("well") == ranks and "told OSError" in ended.out, ended.out


READ_ONLY = """
import nodeshare as ns

try:
    ns.save("x.npy", ns.zeros(10))
except (OSError, ns.PeerError) as error:
    print(f"told {error}\\n", end="", flush=True)
ns.zeros(3).sync()
"""


def test_a_read_only_folder_is_told_to_all(job_on):
    ended = job_on("mount -t tmpfs -o ro tmpfs .", 2, READ_ONLY)
    assert ended.code == 0, ended.out + ended.err
    assert len(re.findall("told .*Read-only file system", ended.out)) == 2, ended.out
