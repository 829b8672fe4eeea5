# SPDX-License-Identifier: BSD-3-Clause
"""checksum: one number for the same bytes, whatever the ranks and nodes; nodes that differ are named."""

import numpy as np
import pytest
from mpi4py import MPI
from support import DTYPES, LAST, by_node, content, leaves_nothing, only, outcome, told, world  # noqa: F401

import nodeshare as ns


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_rank_gets_the_number_that_one_rank_alone_gets(dtype, order):
    values = content(dtype, (7, 3), 5, order)
    number = ns.array(values).checksum()
    assert isinstance(number, int) and 0 <= number < 2**64
    a = ns.zeros((7, 3), dtype, order=order)
    a.set(ns.array(values).array)
    alone = ns.zeros((7, 3), dtype, order=order, comm=MPI.COMM_SELF)
    alone.array[...] = values
    if np.dtype(dtype).names is None and np.dtype(dtype).char not in "gG":  # else there is padding
        assert a.checksum() == alone.checksum()
    assert set(world.allgather(number)) == {number}


@pytest.mark.parametrize("shape", [(), (0,), (1,), ((3 << 20) + 7,)], ids=str)
def test_the_number_does_not_depend_on_who_computes_it(shape):
    a = ns.zeros(shape, "u1")
    a.set(content("u1", shape, 3))
    alone = ns.zeros(shape, "u1", comm=MPI.COMM_SELF)
    alone.array[...] = a.array
    number = a.checksum()
    assert number == alone.checksum()
    if a.size:
        a.set(77, index=(-1,) * a.ndim)
        assert a.checksum() != number


def test_what_was_written_before_counts_without_a_sync():
    a = ns.zeros(100_003, "i4")
    start, stop = ns.local_range(a.size)
    for round in range(3):
        a.array[start:stop] = round + np.arange(start, stop)
        a.allgather()
        a.local[...] += 1
        alone = ns.array(round + 1 + np.arange(a.size, dtype="i4"), comm=MPI.COMM_SELF)
        assert a.checksum() == alone.checksum()


def test_an_array_of_an_arena_has_the_number_of_its_own_bytes():
    arena = ns.arena(1 << 12)
    first, a, last = arena.zeros(3), arena.ones(5), arena.zeros(3)
    before = a.checksum()
    first.local[...] = last.local[...] = 9
    assert a.checksum() == before == ns.ones(5).checksum()


def test_nodes_that_differ_are_a_mismatch_that_names_them():
    a = ns.zeros(1000)
    by_node(a)
    if a.topology.nodes == 1:
        a.checksum()
        return
    told(outcome(a.checksum), ns.Mismatch, "on node 0", f"on node {a.topology.nodes - 1}", "zeros")
    a.bcast(LAST)
    assert outcome(a.checksum) is None


@pytest.mark.ranks(2, 3, 5)
@pytest.mark.usefixtures("leaves_nothing")
def test_ranks_that_differ_all_hear_of_it():
    a, b = ns.zeros(3), ns.zeros(3)
    told(outcome(lambda: only(0, a, b).checksum()), ns.Mismatch, "checksum")
    told(outcome(lambda: a.checksum() if world.rank == 0 else a.bcast()), ns.Mismatch, "checksum", "bcast")
    if world.rank == LAST:
        b.close()
    told(outcome(lambda: b.checksum()), only(LAST, ns.Error, ns.PeerError), "closed")
