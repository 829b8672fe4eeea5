# SPDX-License-Identifier: BSD-3-Clause
"""Work that was not finished: named, and never taken for rows that are right."""

import re
import time

import pytest
from mpi4py import MPI
from support import LAST, leaves_nothing, outcome, told, world  # noqa: F401

import nodeshare as ns

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def ranges(error):
    """Return the indices that a text names as missing."""
    found = re.findall(r"indices (\d+) to (\d+)", str(error))
    return {i for first, last in found for i in range(int(first), int(last) + 1)}


def assert_unfinished(error, missing):
    """The ranks of the node say which indices are missing; the others hear it from one of them."""
    assert isinstance(error, ns.Error) and "not finished" in str(error)
    assert missing <= ranges(error), (missing, str(error))


def test_a_second_loop_is_refused():
    hours = ns.work(5)
    assert sorted(sum(world.allgather(list(hours)), [])) == list(range(5))
    told(outcome(lambda: list(hours)), ns.Error, "new one")
    told(outcome(lambda: iter(hours)), ns.Error)


@pytest.mark.parametrize("schedule", ["dynamic", "static"])
def test_a_loop_that_was_left_early_is_named(schedule):
    n = 20 * world.size
    y, hours, left = ns.zeros(n), ns.work(n, schedule=schedule), None
    for i in hours:
        left = i
        break
    assert_unfinished(outcome(lambda: y.allgather(hours)), {i for i in world.allgather(left) if same_node(i, n)})


def same_node(index, n):
    """Whether an index belongs to the first node, whose trouble is told."""
    t = ns.topology()
    return index is not None and index < n * len(t.ranks_on(0)) // t.size and t.node == 0


@pytest.mark.parametrize("schedule", ["dynamic", "static"])
@pytest.mark.parametrize("bad", sorted({0, LAST}))
def test_a_loop_that_one_rank_left_early_is_named_with_what_it_had(schedule, bad):
    n = 20 * world.size
    y, hours, left = ns.zeros(n), ns.work(n, chunk=4, schedule=schedule), None
    for taken, i in enumerate(hours):
        if world.rank == bad and taken == 1:
            left = i
            break
        y[i] = i
        if world.rank != bad:
            time.sleep(0.001)  # the one that leaves gets something
    error = outcome(lambda: y.allgather(hours))
    left = world.bcast(left, bad)
    if left is None:  # the others took it all
        assert error is None
        return
    assert_unfinished(error, {left})
    assert f"rank {bad}" in str(error) and left - 1 not in ranges(error)


def test_a_body_that_raised_is_named():
    n = 10 * world.size
    y, hours, at = ns.zeros(n), ns.work(n), None

    def body():
        nonlocal at
        for i in hours:
            at = i
            raise KeyError(i)

    assert type(outcome(body)) in (KeyError, type(None))
    assert_unfinished(outcome(lambda: y.allgather(hours)), {i for i in world.allgather(at) if same_node(i, n)})


@pytest.mark.parametrize("bad", sorted({0, LAST}))
def test_a_last_index_whose_body_raised_is_not_done(bad):
    y, hours = ns.zeros(world.size), ns.work(world.size, chunk=1, schedule="static")

    def body():
        for i in hours:
            y[i] = i
            if world.rank == bad:
                raise KeyError(i)

    outcome(body)
    error = outcome(lambda: y.allgather(hours))
    assert isinstance(error, ns.Error) and f"rank {bad}" in str(error) and len(ranges(error)) == 1


def test_a_loop_that_nobody_began_is_named():
    y, hours = ns.zeros(7), ns.work(7)
    error = outcome(lambda: y.allgather(hours))
    assert_unfinished(error, {i for i in range(7) if same_node(i, 7)})


@pytest.mark.ranks(2, 3, 5)
@pytest.mark.parametrize("schedule", ["dynamic", "static"])
def test_a_rank_that_never_began_is_missed_only_with_its_own_block(schedule):
    n = 12 * world.size
    y, hours = ns.zeros(n), ns.work(n, schedule=schedule)
    t = ns.topology()
    if world.rank != LAST:
        for i in hours:
            y[i] = i
    error = outcome(lambda: y.allgather(hours))
    if schedule == "dynamic" and len(t.ranks_on(t.node_of(LAST))) > 1:
        assert error is None and y.array.tolist() == list(range(n))
    else:
        assert isinstance(error, ns.Error) and len(ranges(error)) >= 12 - 1


def test_an_open_loop_is_not_finished():
    y, hours = ns.zeros(3 * world.size), ns.work(3 * world.size, schedule="static")
    it = iter(hours)
    first = next(it)
    error = outcome(lambda: y.allgather(hours))
    rest = [first, *it]
    y.array[rest] = rest
    y.allgather(hours)
    assert isinstance(error, ns.Error) and y.array.tolist() == list(range(3 * world.size))


def test_an_array_of_another_length_or_communicator_is_refused():
    hours = ns.work(5)
    for _ in hours:
        pass
    told(outcome(lambda: ns.zeros(6).allgather(hours)), ns.InvalidArgument, "6 rows", "5 indices")
    alone = ns.zeros(5, comm=MPI.COMM_SELF)
    told(outcome(lambda: alone.allgather(hours)), ns.InvalidArgument, "communicators")
