# SPDX-License-Identifier: BSD-3-Clause
"""Windows that are not aliased: ranks let go of them locally all the same, and free them together later."""

import numpy as np
import pytest
from support import LAST, world

import nodeshare as ns

SIZE = 3 << 20
LARGE = 1 << 20  # nothing else that this process shares with others is made meanwhile


@pytest.fixture
def held(monkeypatch):
    """Return a communicator whose arrays are held windows."""
    monkeypatch.setenv("NODESHARE_MEMORY", "held-window")
    comm = world.Dup()
    ns.topology(comm)
    yield comm
    ns.trim(comm)
    comm.Free()


def mapped():
    """Return how many large pieces of memory this rank shares with others."""
    world.Barrier()
    count = 0
    with open("/proc/self/maps") as file:
        for line in file:
            addresses, rights, *_ = line.split()
            first, last = (int(address, 16) for address in addresses.split("-"))
            count += rights[3] == "s" and last - first >= LARGE
    world.Barrier()
    return count


def test_nodes_of_several_ranks_get_it(held):
    a = ns.zeros(10, comm=held)
    (kind,) = {one.kind for one in ns.memory().arrays if one.made == a._segment.description}
    assert kind == ("held-window" if a.topology.node_size > 1 else "memfd")
    a.local[...] = 1
    a.sync()
    assert a.array.tolist() == [1] * 10 or ns.topology().nodes > 1


def test_what_all_have_let_go_of_a_later_call_frees(held):
    before = mapped()
    arrays = [ns.zeros(SIZE, "u1", comm=held) for _ in range(5)]
    assert mapped() == before + 5
    for a in arrays if world.rank % 2 else arrays[::-1]:
        a.close()
        if world.rank == LAST:
            world.Barrier()
    if world.rank != LAST:
        for _ in arrays:
            world.Barrier()
    ns.trim(held)
    assert mapped() == before


def test_a_view_keeps_its_window_whatever_is_freed_around_it(held):
    before = mapped()
    a = ns.full(SIZE, 7, "u1", comm=held)
    view = a.array[5:] if world.rank == LAST else None
    a.close()
    for size in range(1, 8):
        b = ns.full(size * SIZE, size, "u1", comm=held)
        b.close()
        ns.trim(held)
        assert view is None or (view == 7).all()
    del view
    world.Barrier()
    ns.trim(held)
    assert mapped() == before


def test_memory_is_used_again_and_zero(held):
    for _ in range(5):
        a = ns.zeros(SIZE, "u1", comm=held)
        assert not a.array.any()
        a.sync()
        a.local[...] = 9
        a.close()


def test_arrays_outlive_their_communicator(held):
    comm = held.Dup()
    a = ns.full(SIZE, 3, "u1", comm=comm)
    comm.Free()
    view = a.array
    a.close()
    assert np.count_nonzero(view == 3) == SIZE


def test_windows_end_with_their_communicator(held):
    ns.zeros(SIZE, "u1", comm=held)
    before = mapped()
    for step in range(3):
        comm = held.Dup()
        a = ns.full(SIZE, step, "u1", comm=comm)
        del a
        comm.Free()
    assert mapped() == before
