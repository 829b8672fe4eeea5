# SPDX-License-Identifier: BSD-3-Clause
"""Ranks that call different things: all hear who called what where, and the job goes on."""

import functools

import numpy as np
import pytest
from mpi4py import MPI
from support import LAST, leaves_nothing, only, outcome, told, world  # noqa: F401

import nodeshare as ns

pytestmark = [pytest.mark.usefixtures("leaves_nothing"), pytest.mark.ranks(2, 3, 5)]


PADDED = np.dtype({"names": ["x"], "formats": ["f4"], "offsets": [4], "itemsize": 8})
DIFFERENT = {
    "shape": lambda a, b, mine: ns.zeros(mine(3, 4)),
    "same size": lambda a, b, mine: ns.zeros(mine((2, 3), (3, 2))),
    "dtype": lambda a, b, mine: ns.zeros(3, mine("i4", "f4")),
    "byte order": lambda a, b, mine: ns.zeros(3, mine("<i4", ">i4")),
    "padding": lambda a, b, mine: ns.zeros(3, mine(PADDED, np.dtype("i4, f4"))),
    "names": lambda a, b, mine: ns.zeros(3, [(mine("x", "y"), "f4")]),
    "unit": lambda a, b, mine: ns.zeros(3, mine("M8[s]", "M8[ms]")),
    "order": lambda a, b, mine: ns.zeros((2, 3), order=mine("C", "F")),
    "reserve": lambda a, b, mine: ns.zeros(3, reserve=mine(True, False)),
    "fill": lambda a, b, mine: ns.full(3, mine(1.0, 2.0)),
    "fill of a row": lambda a, b, mine: ns.full((2, 3), mine([1, 2, 3], [1, 2, 4])),
    "fill of a long text": lambda a, b, mine: ns.full(3, "x" * 200 + mine("a", "b")),
    "fill of a large array": lambda a, b, mine: ns.full(5000, np.arange(5000) + mine(0, 1) * (np.arange(5000) == 2500)),
    "fill's type": lambda a, b, mine: ns.full(3, mine(np.int8(1), np.int16(1))),
    "full_like's fill": lambda a, b, mine: ns.full_like(a, mine(1, 2)),
    "creators": lambda a, b, mine: mine(ns.zeros, ns.empty)(3),
    "zeros and array": lambda a, b, mine: mine(ns.zeros, ns.array)(3),
    "zeros and work": lambda a, b, mine: mine(ns.zeros, ns.work)(3),
    "array's root": lambda a, b, mine: ns.array([1], root=mine(0, LAST)),
    "array's writable": lambda a, b, mine: ns.array([1], writable=mine(True, False)),
    "array's dtype": lambda a, b, mine: ns.array([1], mine("f4", "f8")),
    "bcast's root": lambda a, b, mine: a.bcast(mine(0, LAST)),
    "array of bcast": lambda a, b, mine: mine(a, b).bcast(),
    "array of allgather": lambda a, b, mine: mine(a, b).allgather(),
    "owners": lambda a, b, mine: a.allgather(mine([0, 0, 0, 0], [0, 0, 0, LAST])),
    "owners or none": lambda a, b, mine: a.allgather(mine(None, [0, 0, 0, LAST])),
    "set's index": lambda a, b, mine: a.set(1, mine(2, 3)),
    "set's root": lambda a, b, mine: a.set(1, root=mine(0, LAST)),
    "set's array": lambda a, b, mine: mine(a, b).set(1),
    "set and bcast": lambda a, b, mine: mine(a.set, lambda value: a.bcast())(0),
    "together's arrays": lambda a, b, mine: ns.together(*mine((a, b), (b, a))).__enter__(),
    "together's count": lambda a, b, mine: ns.together(*mine((a,), (a, b))).__enter__(),
    "together's root": lambda a, b, mine: ns.together(a, root=mine(None, 0)).__enter__(),
    "together and writing": lambda a, b, mine: mine(ns.together(a), a.writing()).__enter__(),
    "work's count": lambda a, b, mine: ns.work(mine(3, 4)),
    "work's chunk": lambda a, b, mine: ns.work(9, mine(None, 2)),
    "work's schedule": lambda a, b, mine: ns.work(9, schedule=mine("dynamic", "static")),
    "load's path": lambda a, b, mine: ns.load(mine("/dev/null", "/dev/zero")),
}


@pytest.mark.parametrize("bad", sorted({0, LAST}))
@pytest.mark.parametrize("name", DIFFERENT)
def test_ranks_that_call_different_things_all_hear_who_called_what_where(name, bad):
    a, b = ns.zeros((4, 3)), ns.zeros((4, 3))
    call = DIFFERENT[name]
    error = outcome(lambda: call(a, b, lambda theirs, others: only(bad, theirs, others)))
    if name == "load's path":  # neither is a .npy file
        told(error, ns.InvalidArgument)
        return
    line = call.__code__.co_firstlineno
    told(error, ns.Mismatch, *(f"rank {rank} on " for rank in range(world.size)), "called", f"test_mismatch.py:{line}")
    assert len(set(world.allgather(str(error)))) == 1
    a.bcast()


def test_a_mismatch_names_each_rank_s_own_arguments_and_line():
    def one():
        ns.zeros((7, 2), "i2")

    def two():
        ns.full(5, 2.5)

    error = outcome(only(LAST, one, two))
    told(error, ns.Mismatch, "zeros(", "(7, 2)", "i2", f"test_mismatch.py:{one.__code__.co_firstlineno + 1}")
    told(error, ns.Mismatch, "full(", "(5,)", "2.5", f"test_mismatch.py:{two.__code__.co_firstlineno + 1}")


def test_sync_against_another_call_on_the_node():
    t = ns.topology()
    if t.node_size == 1:
        return
    x, y = ns.zeros(3, comm=t.node_comm), ns.zeros(3, comm=t.node_comm)
    last = t.node_rank == t.node_size - 1
    for mine, others in (
        (lambda: ns.zeros(3, comm=t.node_comm), x.sync),
        (y.sync, x.sync),
        (x.bcast, x.sync),
        (x.sync, lambda: ns.array([1], comm=t.node_comm)),
    ):
        told(outcome(mine if last else others), ns.Mismatch, "sync", f"rank {t.node_size - 1} on", "test_mismatch.py:")
    x.sync()


def test_sync_on_some_ranks_and_a_creator_on_one_reaches_the_other_nodes():
    a = ns.zeros((4, 3))
    t = ns.topology()
    on_its_node = t.node == t.node_of(LAST)

    def program():
        if world.rank != LAST:
            a.sync()
        ns.zeros(3)

    if t.node_size == 1 and on_its_node:  # nobody there to sync with
        program = functools.partial(ns.zeros, 3)
        error = outcome(program)
        assert error is None
    elif t.nodes > 1 and len(t.ranks_on(t.node_of(LAST))) == 1:
        assert outcome(program) is None
    else:
        told(outcome(program), ns.Mismatch, "sync", "zeros", f"rank {LAST} on")


def test_the_job_goes_on_after_many_errors():
    a = ns.zeros((4, 3))
    for step in range(30):
        told(outcome(lambda step=step: ns.zeros(only(step % world.size, 3, 4))), ns.Mismatch)
        a.set(step, root=step % world.size)
        assert (a.array == step).all()
        a.sync()


def test_an_error_on_one_communicator_leaves_others_alone():
    half = MPI.COMM_WORLD.Split(world.rank % 2, world.rank)
    with_error = world.rank % 2 == 0
    ns.topology(half)
    error = outcome(lambda: ns.zeros(-1 if with_error else 3, comm=half))
    assert isinstance(error, ns.InvalidArgument) if with_error else error is None
    c = ns.ones(3, comm=half)
    half.Free()
    assert c.array.sum() == 3
