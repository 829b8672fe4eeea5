# SPDX-License-Identifier: BSD-3-Clause
"""kill -9 at any moment, most likely in the middle of a creation: the job ends soon, and nothing of it stays."""

import os
import random
import re
import signal
import time

import pytest

SIZE = 37 << 20  # no other program's files in /dev/shm have this size
MOST_LEFT = 64 << 10

SCRIPT = f"""
import os, sys
import nodeshare as ns

t = ns.topology()
print(f"rank {{t.rank}} is process {{os.getpid()}}\\n", end="", flush=True)
try:
    for step in range(1_000_000):
        a = ns.zeros({SIZE}, "u1", reserve=step % 8 == 0)
        a.local[:1] = 1
        a.sync()
        del a
        ns.trim()  # so that the next one is made, not taken from what lies idle
except ns.PeerError as error:
    print(f"told: {{error}}\\n", end="", flush=True)
    sys.exit(1)
"""


def files():
    """Return the names in /dev/shm of the arrays' size (windows are somewhat larger) that hold memory.

    Killed in the midst of MPI_Win_allocate_shared, Open MPI leaves its file there, still empty.
    """
    found = set()
    for entry in os.scandir("/dev/shm"):
        try:
            found_there = entry.stat()
            large = SIZE <= found_there.st_size < SIZE + (1 << 20)
            if large and found_there.st_blocks * 512 > MOST_LEFT:
                found.add(entry.name)
        except FileNotFoundError:
            pass  # another program's
    return found


def kill_and_look(job, ranks, memory, who):
    before = files()
    running = job.start(ranks, SCRIPT, env={"NODESHARE_MEMORY": memory})
    pids = {}
    for rank in range(ranks):
        said = f"rank {rank} is process "
        assert running.wait_for(said), running.output()
        pids[rank] = int(re.search(said + r"(\d+)\n", running.output())[1])
    pids["mpiexec"] = running.process.pid
    moment = random.uniform(0, 0.2)
    time.sleep(moment)
    for victim in range(ranks) if who == "all" else [who]:
        os.kill(pids[victim], signal.SIGKILL)
    ended = running.wait(20, grace=10)
    report = f"killed after {moment} s: {ended}"
    assert not ended.timed_out and not ended.left and ended.code != 0, report
    for told in re.findall("told: (.*)", ended.out):  # most launchers leave them no time for it
        assert told.startswith(f"rank {who} on "), report
    assert files() <= before, report


@pytest.mark.parametrize("who", [0, 1, "all", "mpiexec"])
@pytest.mark.parametrize("ranks", [2, 3])
def test_a_kill_ends_the_job_and_leaves_nothing(job, ranks, who):
    kill_and_look(job, ranks, "window", who)


@pytest.mark.slow
@pytest.mark.parametrize("memory", ["window", "memfd"])
@pytest.mark.parametrize("who", [0, 1, "all", "mpiexec"])
@pytest.mark.parametrize("ranks", [3])
def test_many_kills(job, ranks, who, memory):
    for _ in range(2):
        kill_and_look(job, ranks, memory, who)
