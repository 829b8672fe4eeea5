# SPDX-License-Identifier: BSD-3-Clause
"""A function of each item: computed once in the job, its results the same on all ranks."""

import time

import numpy as np
import pytest
from mpi4py import MPI
from support import (  # noqa: F401
    DTYPES,
    LAST,
    content,
    leaves_nothing,
    one_failed,
    only,
    outcome,
    same,
    some_failed,
    told,
    world,
)

import nodeshare as ns

pytestmark = pytest.mark.usefixtures("leaves_nothing")
COUNTS = sorted({0, 1, world.size - 1, world.size, 7, 100})


class Counted:
    """A function that notes what it was called with."""

    def __init__(self, f):
        self.f = f
        self.items = []

    def __call__(self, item):
        self.items.append(item)
        return self.f(item)

    def items_of_all(self):
        """Collective. Return what it was called with on all ranks, sorted."""
        return sorted(sum(world.allgather(self.items), []))


# --- a list of results ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [None, 1, 10])
@pytest.mark.parametrize("n", COUNTS)
def test_all_results_are_there_in_order_on_every_rank_and_each_was_computed_once(n, chunk):
    f = Counted(lambda i: (i, str(i)))
    assert ns.map(f, n, chunk=chunk) == [(i, str(i)) for i in range(n)]
    assert f.items_of_all() == list(range(n))


@pytest.mark.parametrize("items", [["b", "a", "c"], (2.5, None), range(3, 20, 2), "text", np.arange(3)], ids=repr)
def test_items_of_a_sequence(items):
    assert ns.map(lambda item: [item], items) == [[item] for item in items]


def test_results_of_any_kind():
    kinds = [None, 1.5, "é" * 1000, b"", {"a": [1, {2}]}, np.float32(2), int, world.size * "x", 10**30]
    assert ns.map(kinds.__getitem__, len(kinds)) == kinds


def test_arrays_in_results_are_one_read_only_copy_per_node():
    results = ns.map(lambda i: {"row": np.full((i, 3), i), "name": str(i)}, 10)
    for i, result in enumerate(results):
        assert same(result["row"], np.full((i, 3), i)) and result["name"] == str(i)
        assert not result["row"].flags.writeable
        assert i == 0 or ns.is_shared(result["row"])


def test_results_may_be_shared_arrays_of_the_same_ranks():
    arrays = [ns.full(3, i) for i in range(4)]
    results = ns.map(lambda i: arrays[i], 4)
    arrays[2].array[1] = 7 + arrays[2].topology.node
    assert [type(result) for result in results] == [ns.SharedArray] * 4
    arrays[2].sync()
    assert results[2].array[1] == 7 + arrays[2].topology.node


# --- into an array --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_of_every_dtype_are_whole_on_every_node(dtype):
    rows = content(dtype, (11, 3))
    for order in "CF":
        f = Counted(lambda i: rows[i])
        out = ns.zeros(rows.shape, dtype, order=order)
        assert ns.map(f, 11, out) is out
        assert same(out.array, rows) and f.items_of_all() == list(range(11))
    single = ns.zeros(11, dtype)
    assert same(ns.map(lambda i: rows[i, 1], 11, out=single).array, rows[:, 1])


@pytest.mark.parametrize("shape", [(0,), (0, 4), (3, 0), (1,), (2, 3, 4)], ids=str)
def test_rows_of_every_shape(shape):
    rows = content("f4", shape)
    assert same(ns.map(lambda i: rows[i], shape[0], ns.ones(shape, "f4")).array, rows)


def test_rows_of_an_array_in_an_arena():
    with ns.arena(1 << 14) as pool:
        first, second = pool.zeros(5), pool.zeros((5, 2))
        ns.map(lambda i: [i, -i], 5, second)
        assert second.array.tolist() == [[i, -i] for i in range(5)] and not first.array.any()


@pytest.mark.parametrize("gives, dtype", [(3, float), (2.5, "f4"), (True, "i2"), (range(2), float), ("ab", "U5")])
def test_what_is_of_the_same_kind_is_cast(gives, dtype):
    out = ns.map(lambda i: gives, 4, ns.zeros((4, *np.shape(gives)), dtype))
    assert same(out.array, np.array([gives] * 4, dtype))


def test_on_communicators_of_their_own():
    comm = MPI.COMM_WORLD.Split(world.rank % 2, -world.rank)
    assert ns.map(lambda i: i + world.rank % 2, 5, comm=comm) == [i + world.rank % 2 for i in range(5)]
    out = ns.zeros(5, comm=comm)
    assert ns.map(abs, 5, out) is out and out.array.tolist() == list(range(5))  # that of out
    assert ns.map(str, 2, comm=MPI.COMM_SELF) == ["0", "1"]
    del out
    comm.Free()


def test_within_a_loop_over_communicators_of_this_rank_alone():
    sums = ns.map(lambda i: sum(ns.map(lambda j: 10 * i + j, 3, comm=MPI.COMM_SELF)), 5)
    assert sums == [30 * i + 3 for i in range(5)]


def test_progress_ends_at_100_percent(capfd):
    ns.map(abs, 40 * world.size, progress=True)
    err = capfd.readouterr().err
    assert ("100 %" in err) == (world.rank == 0)


# --- what goes wrong ------------------------------------------------------------------------------------------------


def one_raised(call, kind, *words):
    """Collective. The one rank that came to the bad item has its own exception, the others a PeerError."""
    error = outcome(call)
    mine = world.allgather(type(error) is kind)
    assert mine.count(True) == 1, (mine, error)
    one_failed(error, mine.index(True), kind, *words)


@pytest.mark.parametrize("with_out", [False, True])
def test_a_function_that_raises_for_one_item_ends_all(with_out):
    def f(i):
        if i == 5:
            raise ZeroDivisionError("item five")
        return i

    out = ns.zeros(20) if with_out else None
    one_raised(lambda: ns.map(f, 20, out), ZeroDivisionError, "item five")


@pytest.mark.ranks(2, 3, 5)
@pytest.mark.timeout(30)
def test_the_ranks_of_a_node_go_no_further_when_one_has_failed():
    t = ns.topology()
    done = 0

    def f(i):
        nonlocal done
        if world.rank == 0:
            raise ZeroDivisionError(i)
        if t.node == 0:  # but for an item that it was at, it waits for the word
            time.sleep(0.02)
        done += 1

    n = 1000 * world.size
    one_failed(outcome(lambda: ns.map(f, n)), 0, ZeroDivisionError)
    on_node = sum(world.allgather(done)[rank] for rank in t.ranks_on(0))
    assert on_node < 500 * len(t.ranks_on(0))  # else 20 s would have passed


@pytest.mark.parametrize("with_out", [False, True])
def test_a_function_that_raises_for_all_items_ends_all(with_out):
    out = ns.zeros(20 * world.size) if with_out else None
    some_failed(outcome(lambda: ns.map(lambda i: 1 // 0, 20 * world.size, out)), ZeroDivisionError)


def test_a_result_that_cannot_be_pickled_ends_all():
    def f(i):
        return (lambda: 1) if i == 3 else i

    error = outcome(lambda: ns.map(f, 20))
    assert world.allgather(type(error) is ns.PeerError).count(False) == 1
    assert "pickle" in str(error)


class Unreadable:
    def __reduce__(self):
        return _unreadable, (world.rank,)


def _unreadable(rank):
    if world.rank == LAST:
        raise OSError("not here")
    return rank


def test_a_result_that_cannot_be_unpickled_on_one_rank_ends_all():
    one_failed(outcome(lambda: ns.map(lambda i: Unreadable(), 3)), LAST, OSError, "not here")


WRONG = {
    "shape": (lambda i: np.zeros(3), ["f(items[0]) gave shape (3,)", "(2,) is needed"]),
    "nothing": (lambda i: None, ["f(items[0]) gave None"]),
    "complex": (lambda i: [1j, 2], ["complex128", "float64"]),
    "text": (lambda i: ["a", "b"], ["<U1", "float64"]),
    "masked": (lambda i: np.ma.zeros(2), ["MaskedArray"]),
}


@pytest.mark.parametrize("f, words", WRONG.values(), ids=WRONG.keys())
def test_what_does_not_fit_into_a_row_is_refused(f, words):
    one_raised(lambda: ns.map(f, 1, ns.zeros((1, 2))), ns.InvalidArgument, *words)


BAD = {
    "no function": (lambda: ns.map(3, 5), ["f is a int"]),
    "no items": (lambda: ns.map(abs, {1, 2}), ["set"]),
    "chunk": (lambda: ns.map(abs, 5, chunk=0), ["chunk is 0"]),
    "an ndarray": (lambda: ns.map(abs, 5, np.zeros(5)), ["out is a ndarray", "SharedArray"]),
    "too many rows": (lambda: ns.map(abs, 5, ns.zeros(6)), ["(6,)", "5 items"]),
    "0-d": (lambda: ns.map(abs, 1, ns.zeros(())), ["()", "1 items"]),
    "read-only": (lambda: ns.map(abs, 5, ns.array(np.zeros(5))), ["read-only"]),
    "another communicator": (
        lambda: ns.map(abs, 5, ns.zeros(5, comm=MPI.COMM_SELF), comm=MPI.COMM_WORLD),
        ["communicator"],
    ),
}


@pytest.mark.parametrize("call, words", BAD.values(), ids=BAD.keys())
def test_bad_arguments_are_refused(call, words):
    told(outcome(call), ns.InvalidArgument, *words)


@pytest.mark.ranks(2, 3, 5)
@pytest.mark.timeout(15)
def test_what_one_rank_alone_gets_wrong_is_told_to_all():
    one_failed(outcome(lambda: ns.map(only(LAST, 3, abs), 5)), LAST, ns.InvalidArgument, "f is a int")
    out = ns.zeros(5)
    if world.rank == LAST:
        out.freeze()
    one_failed(outcome(lambda: ns.map(abs, 5, out)), LAST, ns.InvalidArgument, "read-only")


@pytest.mark.ranks(2, 3, 5)
@pytest.mark.timeout(15)
def test_ranks_that_map_different_things_are_a_mismatch():
    told(outcome(lambda: ns.map(abs, only(LAST, 3, 4))), ns.Mismatch, "map(3", "map(4", f"rank {LAST}")
    a, b = ns.zeros(3), ns.zeros(3)
    told(outcome(lambda: ns.map(abs, 3, only(LAST, a, b))), ns.Mismatch, f"rank {LAST}")
    told(outcome(lambda: ns.map(abs, 3, only(LAST, a, None))), ns.Mismatch, f"rank {LAST}")
    told(outcome(lambda: only(LAST, ns.map, ns.work)(*only(LAST, (abs, 3), (3,)))), ns.Mismatch, "map(", "work(")


@pytest.mark.ranks(2, 3, 5)
@pytest.mark.timeout(15)
def test_a_collective_call_within_the_function_is_a_mismatch():
    told(outcome(lambda: ns.map(lambda i: ns.zeros(7), 1)), ns.Mismatch, "zeros(", "map(")
