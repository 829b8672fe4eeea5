# SPDX-License-Identifier: BSD-3-Clause
"""What the tests of the Python package share: content of every dtype, exact comparison, and who raised what."""

import gc
import os
import sys
import threading
import time
import warnings

import numpy as np
import pytest
from mpi4py import MPI

import nodeshare as ns

world = MPI.COMM_WORLD.Dup()  # the tests' own messages
LAST = world.size - 1

PLAIN = "? i1 u1 i2 u2 i4 u4 i8 u8 e f4 f8 g F D G M8[ns] M8[25s] m8[D] S7 U5 V6 >i2 >u8 >f4 >f8 >c16 >U3 >M8[us]"
RECORDS = {
    "record": [("t", "M8[s]"), ("x", "f8"), ("name", "U4"), ("code", "S3")],
    "nested": [("id", "u2"), ("at", [("x", ">f4"), ("y", "f8")])],
    "padded": {"names": ["a", "b"], "formats": ["i1", "f8"], "offsets": [3, 16], "itemsize": 32},
    "aligned": np.dtype("i1, g, S3", align=True),
    "subarrays": [("m", "f4", (2, 3)), ("n", "c16"), ("k", [("o", "?")], (2,))],
}
DTYPES = [pytest.param(np.dtype(kind), id=kind) for kind in PLAIN.split()]
DTYPES += [pytest.param(np.dtype(kind), id=name) for name, kind in RECORDS.items()]
INDICES = {  # of an array of shape (7, 5)
    "all": ...,
    "row": 2,
    "last row": -1,
    "element": (1, 2),
    "slice": slice(1, 5),
    "steps": (slice(None, None, 2), slice(1, None, 3)),
    "backwards": (slice(None, None, -1), slice(4, 0, -2)),
    "column": (slice(None), 1),
    "nothing": slice(3, 3),
    "fancy": [4, 1, 1, 6],
    "fancy pairs": ([0, 3, 5], [1, 1, 4]),
    "fancy and slice": (slice(2, 4), [4, 0]),
    "mask": np.arange(7) % 3 == 0,
    "mask of elements": np.arange(35).reshape(7, 5) % 4 == 1,
    "new axis": (None, slice(2, 5)),
    "tuple with dots": (..., 3),
    "nothing by mask": np.zeros(7, bool),
    "array": np.array([[0, 2], [6, 5]]),
}


def content(dtype, shape, seed=0, order="C"):
    """Return an ndarray with different bytes for each seed and, where the type has so many values, element."""
    out = np.zeros(shape, dtype, order)
    _fill(out, seed)
    return out


def _fill(out, seed):
    if out.dtype.names is not None:
        for number, name in enumerate(out.dtype.names):
            _fill(out[name], seed + number)
        return
    n = np.arange(out.size).reshape(out.shape) * 5 + seed * 3 + 1
    kind = out.dtype.kind
    if kind == "V":
        raw = bytes((int(value) + byte) % 251 for value in n.flat for byte in range(out.dtype.itemsize))
        out[...] = np.frombuffer(raw, out.dtype).reshape(out.shape)
    elif kind in "SU":
        out[...] = np.char.mod("%d", n)
    elif kind == "b":
        out[...] = (n + n // 3 + seed) % 3 == 0
    elif kind == "c":
        out[...] = n / np.longdouble(7) - 1j * (n / np.longdouble(3))
    elif kind == "f":
        out[...] = n / np.longdouble(7)
    else:
        out[...] = (n % 113).astype(out.dtype)


def parts(array):
    """Yield the plain fields of an array, in full depth."""
    if array.dtype.names is None:
        yield array
    else:
        for name in array.dtype.names:
            yield from parts(array[name])


def fields(dtype):
    """Return what makes dtypes the same: names, types, offsets, sizes."""
    if dtype.subdtype is not None:
        return fields(dtype.subdtype[0]), dtype.subdtype[1]
    if dtype.names is None:
        return dtype.str, dtype.itemsize
    return dtype.itemsize, [(name, fields(dtype.fields[name][0]), dtype.fields[name][1]) for name in dtype.names]


def same(got, expected):
    """Whether two arrays have the same dtype, shape and bytes (of longdouble: values, as it has padding)."""
    if fields(got.dtype) != fields(expected.dtype) or got.shape != expected.shape:
        return False
    for mine, theirs in zip(parts(got), parts(expected)):
        exact = mine.dtype.char in "gG"
        if not (np.array_equal(mine, theirs) if exact else mine.tobytes() == theirs.tobytes()):
            return False
    return True


def by_node(a, seed=0):
    """Collective. Fills each node's copy with bytes of its own."""
    t = a.topology
    if t.is_leader:
        a.array[...] = content(a.dtype, a.shape, seed + t.node)
    a.sync()


def only(rank, theirs, others):
    """Return `theirs` on one rank, `others` elsewhere."""
    return theirs if world.rank == rank else others


def own(values, **options):
    """Return a writable array of this rank alone."""
    return ns.array(values, comm=MPI.COMM_SELF, writable=True, **options)


def address(array):
    """Return where an array begins."""
    return array.__array_interface__["data"][0]


def outcome(call):
    """Return what a call raises, without the frames that would hold its arrays; None if it returns."""
    try:
        call()
    except Exception as error:
        error.__context__ = error.__cause__ = None
        return error.with_traceback(None)
    return None


def started(call):
    """Return a thread that makes a call, and a list which then has what the call gave or raised."""
    got = []

    def run():
        try:
            got.append(call())
        except Exception as error:
            got.append(error.with_traceback(None))

    thread = threading.Thread(target=run)
    thread.start()
    return thread, got


def told(error, kind, *words):
    """Whether an error is exactly of a kind, and its text has all the words; else what it is."""
    if type(error) is kind and all(str(word) in str(error) for word in words):
        return True
    raise AssertionError(f"expected {kind.__name__} with {words}, got {type(error).__name__}: {error}")


def one_failed(error, rank, kind, *words):
    """Where `rank` alone failed: it has its own exception, the others a PeerError with rank, node, type, text."""
    if world.rank == rank:
        return told(error, kind, *words)
    node = ns.topology().node_of(rank)
    where = f"(node {node})" if ns.topology().nodes > 1 else ""
    return told(error, ns.PeerError, f"rank {rank} on ", where, kind.__name__, *words)


def some_failed(error, kind, *words):
    """Collective. Where at least one rank failed: each has its own exception, or a PeerError of one that failed."""
    assert kind in world.allgather(type(error))
    return told(error, kind, *words) if type(error) is kind else told(error, ns.PeerError, kind.__name__, *words)


def alive():
    """Return how many arrays this rank holds, and how many pieces of memory without a name it maps; on all ranks."""
    for comm in (MPI.COMM_WORLD, MPI.COMM_SELF, ns.topology().node_comm):
        ns.trim(comm)  # what is kept for the next arrays is no leak
    with open("/proc/self/maps") as file:
        # UCX, below some MPIs, maps such pieces of its own as it goes; zarr 2 has locks of multiprocessing
        others = ("/SYSV", "/ucx_", "/sem.")
        mapped = [line for line in file if line.endswith("(deleted)\n") and not any(name in line for name in others)]
    if os.environ.get("NODESHARE_MEMORY") == "held-window":
        mapped = []  # windows of arrays that outlive their communicator stay until MPI_Finalize: see test_held_window
    return len(ns._core.segments()), len(mapped)


def private_bytes():
    """Return how much memory this process has to itself."""
    with open("/proc/self/statm") as file:
        _, resident, shared, *_ = map(int, file.read().split())
    return (resident - shared) * os.sysconf("SC_PAGESIZE")


def wait_asleep(comm):
    """Collective over the communicator. A barrier in which who waits leaves the cores to the ranks that work."""
    request = comm.Ibarrier()
    while not request.Test():
        time.sleep(0.001)


def work_together():
    a = ns.full(2 * world.size + 1, world.size)
    a.local[...] += 1
    a.allgather()
    assert a.array.tolist() == [world.size + 1] * a.size


@pytest.fixture
def leaves_nothing(request):
    """After the test nothing more is allocated than before, and all ranks can still work together."""
    for comm in (MPI.COMM_WORLD, MPI.COMM_SELF, ns.topology().node_comm):
        ns.zeros(1, comm=comm)  # what the first use makes, also of the MPI, is there to stay
    work_together()
    failed = request.session.testsfailed
    sys.last_value = sys.last_traceback = sys.last_exc = None  # where pytest keeps the arrays of a test that failed
    gc.collect()
    gc.freeze()  # what libraries have made when they were imported need not be gone through after each test
    before = alive()
    yield
    gc.collect()
    after = alive()
    work_together()
    if request.session.testsfailed == failed:
        # fewer mappings: idle ones of other communicators had to give way
        assert after[0] == before[0] and after[1] <= before[1], f"(arrays, mappings) were {before}, are {after}"


def written(path, make):
    """Collective. Rank 0 makes the file."""
    if world.rank == 0:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            make(path)
    world.Barrier()
    return path
