# SPDX-License-Identifier: BSD-3-Clause
"""Limits of one rank's process (`ulimit -v -f -n`): arrays work, or every rank is told, and the job goes on."""

import re

import pytest

SCRIPT = """
import resource
import nodeshare as ns
from mpi4py import MPI

comm = MPI.COMM_WORLD
ns.zeros(1)
if comm.rank == {who}:
    limit = getattr(resource, "{limit}")
    used = int(open("/proc/self/statm").read().split()[0]) * 4096 if limit == resource.RLIMIT_AS else 0
    resource.setrlimit(limit, (used + (100 << 20), resource.RLIM_INFINITY))
for size in 300 << 20, 20 << 20, 300 << 20, 1000:
    try:
        a = ns.zeros(size, "u1")
        a.sync()
        a.local[...] = 1
        a.sync()
        assert a.array.all()
        print(f"made {{size}}\\n", end="", flush=True)
        del a
        ns.trim()
    except ns.OutOfSharedMemory as error:
        print(f"told {{size}}: {{error}}\\n", end="", flush=True)
print("well\\n", end="", flush=True)
"""


@pytest.mark.parametrize("memory", ["window", "memfd"])
@pytest.mark.parametrize("limit", ["RLIMIT_AS", "RLIMIT_FSIZE"])
@pytest.mark.parametrize(("ranks", "who"), [(2, 0), (3, 2)])
def test_what_one_rank_is_not_allowed_all_are_told(job, ranks, who, limit, memory):
    ended = job(ranks, SCRIPT.format(who=who, limit=limit), env={"NODESHARE_MEMORY": memory})
    assert (ended.code, ended.out.count("well")) == (0, ranks), ended.out + ended.err
    told = re.findall(f"told {300 << 20}: rank {who} on .*its limit of (?:address space|file size)", ended.out)
    assert len(told) == 2 * ranks, ended.out
    assert ended.out.count(f"made {20 << 20}") == ended.out.count("made 1000") == ranks, ended.out


WITHOUT_A_FILE = """
import errno, os, resource, time
import nodeshare as ns
from mpi4py import MPI

comm = MPI.COMM_WORLD
a, q = ns.zeros(comm.size), ns.Queue()
a.sync()
files = []
if comm.rank == 0:
    resource.setrlimit(resource.RLIMIT_NOFILE, (300, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
    try:
        while True:
            files.append(os.open("/dev/null", os.O_RDONLY))
    except OSError as error:
        assert error.errno == errno.EMFILE
comm.Barrier()
if comm.rank == 0:
    {wait}
else:
    time.sleep(0.5)  # the other looks every 50 ms
    a[comm.rank] = comm.rank
    {come}
for file in files:
    os.close(file)
assert (ns.zeros(100_000).array == 0).all()
print("well\\n", end="", flush=True)
"""
WAITS = {
    "in a meeting": ("a.sync(); assert a.array.tolist() == list(range(comm.size))", "a.sync()"),
    "for another change": ("assert sum(q.get() for _ in range(1, comm.size)) == comm.size - 1", "q.put(1)"),
}


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("waits", WAITS)
def test_a_rank_without_a_file_left_takes_nobody_for_dead(job, ranks, waits):
    wait, come = WAITS[waits]
    ended = job(ranks, WITHOUT_A_FILE.format(wait=wait, come=come))
    assert (ended.code, ended.out.count("well")) == (0, ranks), ended.out + ended.err
