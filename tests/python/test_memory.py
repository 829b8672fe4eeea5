# SPDX-License-Identifier: BSD-3-Clause
"""What memory() tells: the arrays of this rank, and where its bytes are."""

import os

import numpy as np
from mpi4py import MPI
from support import alive, world

import nodeshare as ns

LARGE = 32 << 20


def made(call):
    """Return the entry of the array that a call makes, and the array."""
    before = list(ns.memory().arrays)
    a = call()
    after = list(ns.memory().arrays)
    for entry in before:
        after.remove(entry)
    (entry,) = after
    return entry, a


def test_an_array_is_listed_with_where_it_was_made():
    line = test_an_array_is_listed_with_where_it_was_made.__code__.co_firstlineno + 2
    entry, a = made(lambda: ns.zeros((100, 3), "i4", order="F"))
    assert entry.nbytes == a.nbytes == 1200
    for word in ("zeros", "(100, 3)", "i4", "'F'", f"test_memory.py:{line}"):
        assert word in entry.made


def test_inputs_are_listed_with_where_they_were_made():
    line = test_inputs_are_listed_with_where_they_were_made.__code__.co_firstlineno + 2
    entry, _ = made(lambda: ns.array(np.arange(10)))
    assert entry.nbytes == 80 and "array" in entry.made and f"test_memory.py:{line}" in entry.made


def test_the_kind_of_memory_is_told():
    entry, a = made(lambda: ns.zeros(10))
    alone, b = made(lambda: ns.zeros(10, comm=MPI.COMM_SELF))
    assert alone.kind == "memfd"
    setting = os.environ.get("NODESHARE_MEMORY", "auto")
    if a.topology.node_size == 1 or setting == "memfd":
        assert entry.kind == "memfd"
    elif setting != "auto":
        assert entry.kind == setting
    else:
        assert entry.kind in ("window", "memfd")
    assert len(set(a.topology.node_comm.allgather(entry.kind))) == 1
    del b


def test_holders_are_the_ranks_of_the_node_that_have_not_let_go():
    entry, a = made(lambda: ns.zeros(10))
    t = a.topology
    assert entry.holders == t.node_size
    world.Barrier()
    if not t.is_leader:
        del a
    world.Barrier()
    if t.is_leader:
        assert ns.memory().arrays[[one.made for one in ns.memory().arrays].index(entry.made)].holders == 1


def test_a_second_handle_is_no_second_array():
    before = alive()
    a = ns.zeros(10)
    b = ns.handle(a.array)
    assert len(ns.memory().arrays) == before[0] + 1
    del a, b
    assert alive() == before


def test_a_work_is_gone_with_its_iterator():
    before = alive()
    hours = ns.work(10)
    for _ in hours:
        pass
    del hours
    assert alive() == before


def test_asking_is_local():
    a = ns.zeros(10)
    if world.rank == 0:
        assert ns.memory().limit > 0
    assert a.array.sum() == 0


def test_the_ranks_of_a_node_share_the_bytes_of_an_array_between_them():
    t = ns.topology()

    def shared():
        return t.node_comm.allreduce(ns.memory().shared)

    t.node_comm.Barrier()
    before, private = shared(), ns.memory().private
    a = ns.zeros(LARGE, "u1")
    a.array[:: os.sysconf("SC_PAGE_SIZE")].sum()  # every rank has every page in its table
    t.node_comm.Barrier()
    during, own = shared(), ns.memory().private - private
    t.node_comm.Barrier()
    del a
    ns.trim()
    after = shared()
    world.Barrier()
    assert 0.98 * LARGE < during - before < 1.05 * LARGE
    assert own < 0.2 * LARGE
    assert abs(after - before) < 0.05 * LARGE


def test_reserved_pages_are_present_at_once_and_others_when_touched():
    t = ns.topology()

    def rise(reserve):
        ns.trim()
        before = t.node_comm.allreduce(ns.memory().shared)
        a = ns.zeros(LARGE, "u1", reserve=reserve)
        t.node_comm.Barrier()
        out = t.node_comm.allreduce(ns.memory().shared) - before
        t.node_comm.Barrier()
        return out / (a.nbytes)

    reserved, not_reserved = rise(True), rise(False)
    assert reserved > 0.98 and not_reserved < 0.05


def test_the_limit_is_the_machine_s():
    total = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    assert 0 < ns.memory().limit <= total
