# SPDX-License-Identifier: BSD-3-Clause
"""Memory of arrays that nobody holds any more is used for the next ones, and only the time it takes tells."""

import ctypes
import gc
import mmap
import multiprocessing
import os
import resource

import numpy as np
import pytest
from mpi4py import MPI
from support import LAST, alive, world

import nodeshare as ns

SIZE = 3 << 20
BIG = SIZE // 8


def recycled():
    """Return the bytes that lie idle on this rank, once all have let go."""
    world.Barrier()
    out = ns.memory().recycled
    world.Barrier()
    return out


def soil(size=BIG):
    """Make an array, fill it with what no other test writes, and let go of it."""
    a = ns.empty(size)
    a.local[...] = 1e300
    a.sync()


def pages_present(a):
    """Return how many of an array's pages need not be taken any more when they are touched, and how many it has."""
    return pages_at(a.array.ctypes.data, a.nbytes), -(-a.nbytes // mmap.PAGESIZE)


def pages_at(address, nbytes):
    """Return how many of the pages of mapped memory are there."""
    there = np.zeros(-(-nbytes // mmap.PAGESIZE), "u1")
    length, out = ctypes.c_size_t(nbytes), there.ctypes.data_as(ctypes.c_void_p)
    assert ctypes.CDLL(None).mincore(ctypes.c_void_p(address), length, out) == 0
    return int((there & 1).sum())


@pytest.fixture(autouse=True)
def nothing_idle():
    gc.collect()  # or what other files have left in cycles is let go of, and idle, within a test
    alive()
    yield
    alive()


def test_memory_that_all_let_go_of_is_used_again():
    soil()
    assert recycled() >= SIZE
    a = ns.zeros(BIG)
    assert ns.memory().recycled == 0
    del a
    assert recycled() >= SIZE


@pytest.mark.parametrize("reserve", [True, False])
@pytest.mark.parametrize("part", [1, 0.75, 0.5])
def test_zeros_are_zero_in_used_memory(part, reserve):
    soil()
    a = ns.zeros(int(BIG * part), reserve=reserve)
    assert not a.array.any()
    a.sync()
    a.local[...] = 1
    a.sync()
    assert a.array.all()


@pytest.mark.parametrize("make", [lambda: ns.ones(BIG), lambda: ns.full(BIG, 1.0), lambda: ns.array(np.ones(BIG))])
def test_what_is_filled_is_filled_in_used_memory(make):
    soil()
    assert (make().array == 1).all()


@pytest.mark.parametrize("memory", ["window", "memfd"])
def test_reserved_pages_are_present_in_used_memory_whatever_was_reserved_before(memory, monkeypatch):
    monkeypatch.setenv("NODESHARE_MEMORY", memory)
    comm = world.Dup()
    a = ns.zeros(BIG, comm=comm)
    kind = a._memory.kind
    del a
    a = ns.zeros(BIG, reserve=False, comm=comm)
    del a
    assert recycled() == SIZE
    b = ns.empty(BIG, comm=comm)
    assert ns.memory().recycled == 0 and b._memory.kind == kind
    present, pages = pages_present(b)
    assert present == pages
    del b
    comm.Free()


def test_a_work_begins_anew_in_used_memory():
    for _ in range(3):
        assert sum(world.allreduce(sum(ns.work(50))) for _ in range(2)) == 2 * sum(range(50))


def test_memory_is_not_used_again_while_a_rank_holds_a_view():
    a = ns.full(BIG, 7.0)
    view = a.array[5:9] if world.rank == LAST else None
    del a
    b = ns.full(BIG, 8.0)
    assert b.array[0] == 8 and (view is None or view.tolist() == [7] * 4)
    mine = ns.topology().node == ns.topology().node_of(LAST)
    assert (recycled() == 0) == mine or not mine
    del view, b
    assert recycled() >= SIZE


def test_much_larger_memory_is_not_used_for_a_small_array():
    soil()
    a = ns.zeros(10)
    assert ns.memory().recycled >= SIZE
    del a


def test_the_limits_of_an_array_are_its_own():
    soil()
    a = ns.zeros(BIG * 3 // 4, "f8")
    assert ns.handle(a.array[-1:]).shape == a.shape and a.nbytes == a.array.nbytes == BIG * 3 // 4 * 8


def test_trim_gives_it_back():
    soil()
    assert recycled() >= SIZE
    ns.trim()
    assert ns.memory().recycled == 0


def test_trim_gives_it_back_although_a_forked_child_still_maps_it():
    a = ns.empty(BIG)
    a.local[...] = 1
    a.sync()
    address, nbytes = a.array.ctypes.data, a.nbytes
    a.close()
    del a
    assert recycled() >= SIZE
    if world.rank == LAST:
        here, there = multiprocessing.Pipe()
        child = os.fork()
        if child == 0:
            for _ in range(2):
                there.send(pages_at(address, nbytes))
                there.recv()
            os._exit(0)
        assert here.recv() == SIZE // mmap.PAGESIZE
    ns.trim()
    if world.rank == LAST:
        here.send("look again")
        assert here.recv() == 0
        here.send("end")
        os.waitpid(child, 0)


def test_pages_frozen_or_locked_by_one_rank_are_as_good_as_new():
    a = ns.ones(BIG)
    if world.rank == LAST:
        a.freeze(protect=True)
        try:
            a.mlock()
        except ns.Error:
            pass  # `ulimit -l`
    del a
    b = ns.zeros(BIG)
    b.local[...] = 2
    b.sync()
    assert (b.array == 2).all()


def test_memory_that_another_process_may_see_is_not_used_again():
    a = ns.full(BIG, 7.0)
    if set(world.allgather(a._memory.kind)) != {"memfd"}:
        pytest.skip("memory of windows is never seen by other processes")
    if world.rank == 0:
        a._memory.describe()
    del a
    mine = ns.topology().node == ns.topology().node_of(0)
    b = ns.zeros(10)
    assert recycled() == 0 or not mine
    del b


def test_memory_that_a_forked_child_sees_is_not_used_again():
    a = ns.full(BIG, 7.0)
    said = None
    if world.rank == 0:
        reader, writer = os.pipe()
        go_read, go_write = os.pipe()
        child = os.fork()
        if child == 0:
            os.read(go_read, 1)
            os.write(writer, b"same" if (a.array == 7).all() else b"changed")
            os._exit(0)
    world.Barrier()
    del a
    for _ in range(2):
        b = ns.full(BIG, 8.0)
        del b
    if world.rank == 0:
        os.write(go_write, b"x")
        said = os.read(reader, 10)
        os.waitpid(child, 0)
        for one in (reader, writer, go_read, go_write):
            os.close(one)
    assert world.bcast(said) == b"same"


def test_at_most_an_eighth_of_what_is_free_lies_idle():
    with open("/proc/meminfo") as file:
        free = next(int(line.split()[1]) for line in file if line.startswith("MemAvailable")) * 1024
    free = world.allreduce(free, MPI.MIN)
    a = ns.zeros(free // 6, "u1", reserve=False, comm=MPI.COMM_SELF if world.size == 1 else None)
    a[0] = 1
    world.Barrier()
    del a
    assert recycled() <= free // 7


def test_many_idle_arrays_do_not_pile_up():
    arrays = [ns.zeros(10) for _ in range(300)]
    assert len(arrays) == 300
    del arrays
    world.Barrier()
    ns.zeros(100_000)
    world.Barrier()
    ns.zeros(200_000)
    assert recycled() < 100 * 4096 + 16 * 300_000


def test_garbage_gives_way_before_memory_runs_out():
    """An address space that has room for one array only, and one that hangs in a reference cycle of one rank."""
    size = 256 << 20
    gc.collect()
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    before = resource.getrlimit(resource.RLIMIT_AS)
    gc.disable()
    try:
        cycle = [ns.zeros(size, "u1", reserve=False)]
        cycle.append(cycle)
        room = used + 3 * size + (64 << 20)  # a window is mapped twice while it is made
        resource.setrlimit(resource.RLIMIT_AS, (room, before[1]))
        if world.rank != LAST:
            cycle.clear()
        del cycle
        for _ in range(3):
            a = ns.zeros(size, "u1", reserve=False)
            a[0] = 1
            b = [a]
            b.append(b)
            del a, b
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
        gc.enable()
        gc.collect()
