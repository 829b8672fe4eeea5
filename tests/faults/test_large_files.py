# SPDX-License-Identifier: BSD-3-Clause
"""Files of more than 4 GiB, with more elements than an int counts, are read and written right, and by all ranks."""

import os

import numpy as np
import pytest

GIBIBYTE = 1 << 30
ROWS, COLUMNS = (1 << 31) + 7, 2  # bytes, each an element: 14 beyond 4 GiB
# Numbers of elements, in the order of the file: where a number of bytes of 31, 32 bits or a read's step ends.
MARKED = [0, (64 << 20) - 1, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, ROWS * COLUMNS - 1]

PROGRAM = """
    import numpy as np
    from mpi4py import MPI
    import nodeshare as ns

    def bytes_read():
        with open("/proc/self/io") as file:
            return int(file.readline().split()[1])

    before = bytes_read()
    a = ns.load("large.npy")
    share = (bytes_read() - before) / a.nbytes
    world = a.topology.comm
    if a.topology.nodes == 1:  # else what MPI reads counts too
        assert abs(share - 1 / world.size) < 0.01, f"this rank read {{share:.0%}} of the file"
    assert a.shape == ({rows}, {columns}) and a.dtype == np.int8 and a.order == {order!r}
    flat = a.array.ravel({order!r})
    assert flat.base is not None
    marks = {marked}
    assert flat[marks].tolist() == list(range(1, len(marks) + 1)), flat[marks]
    others = a.topology.node_comm.allreduce(np.count_nonzero(a.local)) - len(marks)
    assert others == 0, others
    tail = a.array[-8:, -1] if {order!r} == "F" else a.array[-8:]
    ns.save("tail.npy", tail)
    assert (np.load("tail.npy") == tail).all() and tail[-1].any()
    print("right", flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize(("order", "ranks", "placement", "nodes"), [("C", 2, "", 1), ("F", 3, "2", 2)])
def test_a_sparse_file_of_more_than_4_gib(job, tmp_path, order, ranks, placement, nodes):
    needs(nodes * 5, ("shared memory", free_in("/dev/shm")), ("memory", available()))
    with open(tmp_path / "large.npy", "wb") as file:
        header = {"descr": "|i1", "fortran_order": order == "F", "shape": (ROWS, COLUMNS)}
        np.lib.format.write_array_header_1_0(file, header)
        start = file.tell()
        file.truncate(start + ROWS * COLUMNS)
        for number, place in enumerate(MARKED):
            file.seek(start + place)
            file.write(bytes([number + 1]))
    program = PROGRAM.format(rows=ROWS, columns=COLUMNS, order=order, marked=MARKED)
    ended = job(ranks, program, env={"NODESHARE_RANKS_PER_NODE": placement} if placement else {}, timeout=200)
    assert (ended.code, ended.out.count("right")) == (0, ranks), ended.out + ended.err


SAVE = """
    import numpy as np
    import nodeshare as ns

    a = ns.zeros(({rows}, {columns}), np.int8)
    flat = a.array.ravel()
    if a.topology.rank == 0:
        flat[{marked}] = range(1, {count} + 1)
    ns.save("large.npy", a)
    saved = np.load("large.npy", mmap_mode="r")
    assert saved.shape == a.shape and saved.dtype == a.dtype and not saved.flags.fnc
    assert saved.ravel()[{marked}].tolist() == list(range(1, {count} + 1))
    others = a.topology.comm.allreduce(np.count_nonzero(saved[slice(*a.rows())])) - {count}
    assert others == 0, others
    print("right", flush=True)
"""


@pytest.mark.slow
def test_more_than_4_gib_are_saved(job, tmp_path):
    needs(10, ("memory", available()))
    needs(5, ("shared memory", free_in("/dev/shm")), ("disk", free_in(tmp_path)))
    program = SAVE.format(rows=ROWS, columns=COLUMNS, marked=MARKED, count=len(MARKED))
    ended = job(2, program, timeout=300)
    (tmp_path / "large.npy").unlink(missing_ok=True)
    assert (ended.code, ended.out.count("right")) == (0, 2), ended.out + ended.err


def needs(gibibytes, *of):
    """Skip a test where there is less."""
    for what, free in of:
        if free < gibibytes * GIBIBYTE:
            pytest.skip(f"needs {gibibytes} GiB of {what}, {free // GIBIBYTE} are free")


def free_in(folder):
    """Return the bytes that are free in a folder's file system."""
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize


def available():
    """Return the bytes of memory that can be had."""
    with open("/proc/meminfo") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable:"))
