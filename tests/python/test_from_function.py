# SPDX-License-Identifier: BSD-3-Clause
"""Rows of a function: each computed once in the job, the same on every node."""

import tracemalloc

import numpy as np
import pytest
from mpi4py import MPI
from support import DTYPES, LAST, content, leaves_nothing, one_failed, only, outcome, same, told, world  # noqa: F401

import nodeshare as ns

pytestmark = pytest.mark.usefixtures("leaves_nothing")


class Rows:
    """A function that gives rows of an array, and notes which."""

    def __init__(self, whole):
        self.whole = whole
        self.asked = []

    def __call__(self, start, stop):
        self.asked.append((start, stop))
        return self.whole[start:stop]

    def asked_by_all(self):
        """Collective. Return how often each row was asked for in the job."""
        counts = np.zeros(len(self.whole), int)
        for start, stop in self.asked:
            assert 0 <= start < stop
            counts[start:stop] += 1
        return world.allreduce(counts)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_row_is_computed_once_and_whole_on_every_node(dtype):
    for order in "CF":
        f = Rows(content(dtype, (11, 3)))
        a = ns.from_function(f, (11, 3), dtype, order=order)
        assert same(a.array, f.whole) and a.order == order
        assert (f.asked_by_all() == 1).all()
        assert a.array.flags.writeable


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(0,), (1,), (2,), (4, 0), (3, 2, 5), (1, 1000)], ids=str)
def test_arrays_of_every_shape(shape, order):
    f = Rows(content("i4", shape))
    assert same(ns.from_function(f, shape, "i4", order=order).array, f.whole)
    assert (f.asked_by_all() == 1).all()


def test_a_0_d_array_is_one_row():
    f = Rows(np.array([2.5]))
    assert same(ns.from_function(f, ()).array, np.array(2.5))
    assert f.asked_by_all() == [1]


def test_random_rows_are_the_same_on_all_nodes():
    random = np.random.default_rng()  # another on every rank
    a = ns.from_function(lambda start, stop: random.random((stop - start, 2)), (50, 2))
    assert len(set(world.allgather(a.array.tobytes()))) == 1


@pytest.mark.parametrize("order", ["C", "F"])
def test_blocks_are_cut_to_a_few_megabytes(order):
    row = 300_001
    rows = 40 * world.size

    def f(start, stop):
        tracemalloc.reset_peak()
        assert (stop - start) * row <= 4 << 20
        return np.arange(start, stop, dtype="u1")[:, None] * np.ones(row, "u1")

    tracemalloc.start()
    try:
        a = ns.from_function(f, (rows, row), "u1", order=order)
        assert tracemalloc.get_traced_memory()[1] < 16 << 20
    finally:
        tracemalloc.stop()
    assert np.array_equal(a.array[:, 0], np.arange(rows, dtype="u1"))
    assert np.array_equal(a.array[:, -1], np.arange(rows, dtype="u1"))


def test_a_row_larger_than_a_block_is_computed_alone():
    f = Rows(np.repeat(np.arange(2 * world.size + 1, dtype="u1")[:, np.newaxis], (4 << 20) + 3, axis=1))
    assert same(ns.from_function(f, f.whole.shape, "u1").array, f.whole)
    assert all(stop == start + 1 for start, stop in f.asked)


@pytest.mark.parametrize("gives, dtype", [([[1, 2]], float), ([[1.5, 2.5]], "f4"), ([[True, False]], "i2")], ids=str)
def test_what_is_of_the_same_kind_is_cast(gives, dtype):
    a = ns.from_function(lambda start, stop: gives * (stop - start), (5, 2), dtype)
    assert same(a.array, np.array(gives * 5, dtype))


def test_on_communicators_of_their_own():
    comm = MPI.COMM_WORLD.Split(world.rank % 2, -world.rank)
    a = ns.from_function(lambda start, stop: np.arange(start, stop) + world.rank % 2, 9, int, comm=comm)
    b = ns.from_function(np.arange, 9, int, comm=MPI.COMM_SELF)
    assert a.array.tolist() == [n + world.rank % 2 for n in range(9)] and b.array.tolist() == list(range(9))
    comm.Free()


# --- what goes wrong ------------------------------------------------------------------------------------------------

WRONG = {
    "shape": (lambda start, stop: np.zeros((stop - start, 3)), ["(", "3)", "2) is needed"]),
    "one row": (lambda start, stop: np.zeros(2), ["gave shape (2,)"]),
    "a number": (lambda start, stop: 0.0, ["gave shape ()"]),
    "nothing": (lambda start, stop: None, ["gave None"]),
    "complex": (lambda start, stop: np.zeros((stop - start, 2), complex), ["complex128", "float64"]),
    "text": (lambda start, stop: np.zeros((stop - start, 2), "U3"), ["<U3", "float64"]),
    "masked": (lambda start, stop: np.ma.zeros((stop - start, 2)), ["MaskedArray"]),
    "objects": (lambda start, stop: np.full((stop - start, 2), None), ["objects"]),
}


@pytest.mark.parametrize("f, words", WRONG.values(), ids=WRONG.keys())
def test_what_does_not_fit_is_refused_by_all_or_by_one(f, words):
    shape = (2 * world.size, 2)
    told(outcome(lambda: ns.from_function(f, shape)), ns.InvalidArgument, "f(", *words)
    good = lambda start, stop: np.zeros((stop - start, 2))  # noqa: E731
    one_failed(outcome(lambda: ns.from_function(only(LAST, f, good), shape)), LAST, ns.InvalidArgument, *words)


def test_a_function_that_raises_on_one_rank_ends_all():
    def f(start, stop):
        if stop == 10:
            raise ZeroDivisionError("row nine")
        return np.zeros(stop - start)

    one_failed(outcome(lambda: ns.from_function(f, 10)), LAST, ZeroDivisionError, "row nine")


@pytest.mark.parametrize("f", [None, 3, np.zeros(3)], ids=["None", "number", "array"])
def test_what_is_no_function_is_refused(f):
    told(outcome(lambda: ns.from_function(f, 3)), ns.InvalidArgument, "start, stop", type(f).__name__)


@pytest.mark.parametrize("bad", [{"shape": -1}, {"shape": 2.5}, {"dtype": object}, {"order": "A"}], ids=str)
def test_bad_arguments_are_refused_before_anything_is_computed(bad):
    f = Rows(np.zeros(3))
    told(outcome(lambda: ns.from_function(f, **{"shape": 3, **bad})), ns.InvalidArgument, *bad)
    assert not f.asked


@pytest.mark.ranks(2, 3, 5)
@pytest.mark.parametrize("what, mine", [("shape", ((3,), (4,))), ("dtype", ("f4", "f8")), ("order", "CF")], ids=str)
def test_ranks_that_ask_for_different_arrays_are_a_mismatch(what, mine):
    arguments = {"shape": 3, what: only(LAST, *mine)}
    told(outcome(lambda: ns.from_function(lambda a, b: np.zeros(b - a), **arguments)), ns.Mismatch, f"rank {LAST}")
