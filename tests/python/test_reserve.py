# SPDX-License-Identifier: BSD-3-Clause
"""Arrays whose pages are not reserved: larger than the memory there is, as long as little of them is touched."""

import os

import pytest
from support import leaves_nothing, outcome, told, world  # noqa: F401

import nodeshare as ns

pytestmark = pytest.mark.usefixtures("leaves_nothing")

LARGE_PAGE = 2 << 20  # what a touch takes at most


def total_memory():
    """Return the bytes of the largest node's memory."""
    return max(world.allgather(ns.memory().limit))


@pytest.fixture
def where(request, monkeypatch):
    """Return a communicator whose arrays are of the kind of memory that `request.param` asks for."""
    monkeypatch.setenv("NODESHARE_MEMORY", request.param)
    comm = world.Dup()
    ns.topology(comm)
    yield comm
    comm.Free()


def with_memory(*kinds):
    return pytest.mark.parametrize("where", kinds, indirect=True)


def taken(a):
    """Return the bytes of pages that an array in a memfd has taken on this node."""
    pid, file, *_ = a._memory.describe()
    return os.stat(f"/proc/{pid}/fd/{file}").st_blocks * 512


@with_memory("auto", "memfd")
@pytest.mark.parametrize("create", [ns.zeros, ns.empty])
def test_a_sparse_array_may_be_twice_as_large_as_the_memory(where, create):
    n = total_memory() // 8 * 2
    a = create((n, 1), reserve=False, comm=where)
    t = a.topology
    assert (a.size, a.nbytes) == (n, 8 * n)
    a.sync()
    assert taken(a) == 0
    t.node_comm.Barrier()
    start, stop = a.rows()
    a.local[[0, -1]] = t.rank + 1
    a.sync()
    for rank in t.ranks_on(t.node):
        start, stop = a.rows(rank)
        assert a[start, 0] == a[stop - 1, 0] == rank + 1
    assert 0 < taken(a) <= 2 * t.node_size * LARGE_PAGE
    a.set(7, (n // 3, 0))
    assert a[n // 3, 0] == 7
    del a
    ns.zeros(1000, comm=where)


@with_memory("auto", "memfd")
def test_the_same_reserved_is_refused_on_every_rank(where):
    n = 2 * total_memory()
    told(outcome(lambda: ns.zeros(n, "u1", comm=where)), ns.OutOfSharedMemory, "zeros needs")
    ns.zeros(n, "u1", reserve=False, comm=where).sync()


@with_memory("auto", "memfd")
def test_a_sparse_arena_and_a_view_that_outlives_it(where):
    a = ns.arena(2 * total_memory(), reserve=False, comm=where)
    huge, small = a.zeros(total_memory(), "u1"), a.zeros(10)
    small.local[...] = 3
    huge.local[-1] = 4
    a.sync()
    view = small.array[2:]
    assert huge[-1] == 4 and taken(huge) <= 3 * a.topology.node_size * LARGE_PAGE
    a.close()
    del huge, small
    assert view.tolist() == [3] * 8


@with_memory("window")
def test_a_window_needs_the_room_and_says_what_to_change(where):
    t = ns.topology(where)
    crowded = any(len(t.ranks_on(node)) > 1 for node in range(t.nodes))
    if not crowded:
        pytest.skip("needs a node with several ranks: one alone has no window")
    error = outcome(lambda: ns.zeros(2 * total_memory(), "u1", reserve=False, comm=where))
    told(error, ns.OutOfSharedMemory, "zeros needs", "are free in", "NODESHARE_MEMORY", "memfd")
    ns.zeros(1000, comm=where)


@with_memory("auto", "memfd")
def test_what_no_process_can_map_is_an_error_that_says_so(where):
    error = outcome(lambda: ns.zeros(1 << 60, "u1", reserve=False, comm=where))
    told(error, ns.OutOfSharedMemory, "zeros needs 1 EiB", "address space")
    ns.zeros(1000, comm=where)
