# SPDX-License-Identifier: BSD-3-Clause
"""A control group's limit of memory: over it the kernel kills, so no array may take what is not there."""

import pathlib
import uuid

import pytest

LIMIT = 400 << 20


@pytest.fixture
def group():
    """Make a group below this process' own, of whichever version limits memory here; jobs enter it themselves."""
    for line in pathlib.Path("/proc/self/cgroup").read_text().splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            parent, limit = pathlib.Path("/sys/fs/cgroup/memory") / path[1:], "memory.limit_in_bytes"
        elif not controllers and pathlib.Path("/sys/fs/cgroup/cgroup.controllers").exists():
            parent, limit = pathlib.Path("/sys/fs/cgroup") / path[1:], "memory.max"
        else:
            continue
        folder = parent / f"nodeshare-test-{uuid.uuid4().hex[:8]}"
        try:
            folder.mkdir()
            (folder / limit).write_text(str(LIMIT))
        except OSError as error:
            if folder.exists():
                folder.rmdir()
            pytest.skip(f"no control group with a limit of memory can be made here: {error}")
        yield folder
        for pid in (folder / "cgroup.procs").read_text().split():
            (parent / "cgroup.procs").write_text(pid)
        folder.rmdir()
        return
    pytest.skip("no control groups that limit memory are mounted here")


ENTER = """
import os
with open({procs!r}, "w") as file:
    file.write(str(os.getpid()))
import nodeshare as ns
from mpi4py import MPI
comm = MPI.COMM_WORLD
a = ns.zeros(10)  # all have entered
"""


@pytest.mark.parametrize("memory", ["auto", "memfd"])
@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_an_array_over_the_limit_is_an_error_on_every_rank(job, group, ranks, memory):
    ended = job(
        ranks,
        ENTER.format(procs=str(group / "cgroup.procs"))
        + """
try:
    ns.zeros(600 << 20, "u1")
except ns.OutOfSharedMemory as error:
    print("told:", error, end="\\n", flush=True)
b = ns.ones(50 << 20, "u1")
assert b.array[::4096].all()
print("well\\n", end="", flush=True)
""",
        env={"NODESHARE_MEMORY": memory},
    )
    assert (ended.code, ended.out.count("well")) == (0, ranks), ended.out + ended.err
    told = [line for line in ended.out.splitlines() if "told:" in line]
    assert len(told) == ranks and all(group.name in line and "--mem" in line for line in told), ended.out


@pytest.mark.parametrize("memory", ["auto", "memfd"])
@pytest.mark.parametrize("ranks", [2, 3])
def test_an_array_that_fits_once_but_not_on_each_node_of_the_group_is_an_error_on_every_rank(job, group, ranks, memory):
    ended = job(
        ranks,
        ENTER.format(procs=str(group / "cgroup.procs"))
        + """
size = 220 << 20
for rank in range(comm.size):
    if comm.rank == rank:
        b = ns.ones(size, "u1", comm=MPI.COMM_SELF)
        assert b.array[::4096].all()
        del b
        ns.trim(MPI.COMM_SELF)
        print("fits\\n", end="", flush=True)
    comm.Barrier()
try:
    ns.zeros(size, "u1")
except ns.OutOfSharedMemory as error:
    print("told:", error, end="\\n", flush=True)
c = ns.ones(20 << 20, "u1")
assert c.array[::4096].all()
print("well\\n", end="", flush=True)
""",
        env={"NODESHARE_MEMORY": memory, "NODESHARE_RANKS_PER_NODE": "1"},
    )
    assert (ended.code, ended.out.count("well"), ended.out.count("fits")) == (0, ranks, ranks), ended.out + ended.err
    told = [line for line in ended.out.splitlines() if "told:" in line]
    assert len(told) == ranks and all(group.name in line for line in told), ended.out


@pytest.mark.parametrize("ranks", [1, 2])
def test_what_lies_idle_gives_way_within_the_limit(job, group, ranks):
    ended = job(
        ranks,
        ENTER.format(procs=str(group / "cgroup.procs"))
        + """
for size in (20, 30, 45, 70, 100, 150, 200):
    a = ns.ones(size << 20, "u1")
    assert a.array[::4096].all()
    del a
print("well\\n", end="", flush=True)
""",
    )
    assert (ended.code, ended.out.count("well")) == (0, ranks), ended.out + ended.err


def test_the_group_is_named_by_info(job, group):
    script = ENTER.format(procs=str(group / "cgroup.procs"))
    script += "from nodeshare import info\nreport = info.gather()\nif report:\n    print(report)\n"
    ended = job(2, script)
    assert (ended.code, group.name in ended.out) == (0, True), ended.out + ended.err
