# SPDX-License-Identifier: BSD-3-Clause
"""A function of each block: dask's meaning of the words, each block computed once, the result whole on every node."""

import math
from itertools import product

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
    own,
    same,
    some_failed,
    told,
    world,
)

import nodeshare as ns
from nodeshare.map_blocks import _boxes

try:
    import dask.array as dask  # here: what it makes when it is imported stays
except ImportError:
    dask = None

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def copied(block):
    return block.copy()


class Noted:
    """A function that notes which blocks it was called with."""

    def __init__(self, f=copied):
        self.f = f
        self.blocks = []

    def __call__(self, block, block_id=None, block_info=None):
        if block_info[None]["dtype"] is not None:  # not of what dtypes are inferred from
            self.blocks.append((block_id, block.shape, block_info))
        return self.f(block)

    def blocks_of_all(self):
        """Collective. Return what was noted on all ranks, in the order of the blocks."""
        return sorted(sum(world.allgather(self.blocks), []), key=lambda one: one[0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_arrays_of_every_dtype_in_both_orders(dtype):
    for order in "CF":
        x = content(dtype, (7, 5), order=order)
        f = Noted()
        a = ns.map_blocks(f, x, chunks=(3, 2))
        assert same(a.array, x) and a.order == order and a.array.flags.writeable
        assert [block_id for block_id, _, _ in f.blocks_of_all()] == list(product(range(3), range(3)))
        assert same(ns.map_blocks(copied, ns.array(x), dtype=dtype).array, x)


SHAPES = [(), (0,), (1,), (1000,), (4, 0), (0, 3), (5, 7), (3, 4, 5), (2, 1, 3, 4)]
CUTS = [None, 1, 3, -1, 10**6]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("chunks", CUTS, ids=str)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_arrays_of_every_shape_in_blocks_of_all_axes(shape, chunks, order):
    x = content("i4", shape, order=order)
    f = Noted(lambda block: block + 1)
    a = ns.map_blocks(f, x, chunks=chunks)
    assert same(a.array, x + 1)
    blocks = f.blocks_of_all()
    assert len({block_id for block_id, _, _ in blocks}) == len(blocks)
    assert sum(math.prod(sizes) for _, sizes, _ in blocks) == x.size
    if chunks == 3:
        assert all(max(sizes, default=1) <= 3 for _, sizes, _ in blocks)


CHUNKS = [(2, 3), (2, -1), ((1, 4), 3), ((5,), (3, 3, 1)), [2, (7,)]]


@pytest.mark.skipif(dask is None, reason="dask is not installed")
@pytest.mark.parametrize("chunks", CHUNKS, ids=str)
def test_blocks_are_dask_s(chunks):
    x = np.arange(35.0).reshape(5, 7)
    ours, theirs = Noted(np.sqrt), Noted(np.sqrt)

    def told_by_dask(block, block_id=None, block_info=None):
        return theirs(block, block_id, block_info)

    a = ns.map_blocks(ours, x, chunks=chunks)
    expected = dask.from_array(x, chunks=tuple(chunks)).map_blocks(told_by_dask, dtype=float)
    assert same(a.array, expected.compute(scheduler="synchronous"))
    assert ours.blocks_of_all() == sorted(theirs.blocks, key=lambda one: one[0])


def test_words_for_the_function_are_passed_on():
    def f(block, times, add=0, **more):
        return block * times + add + more["third"]

    def g(block, a, f):
        return block * a + f

    x = ns.array(np.arange(10))
    assert ns.map_blocks(g, x, a=2, f=1).array.tolist() == [2 * i + 1 for i in range(10)]
    assert ns.map_blocks(f, x, times=2, third=5).array.tolist() == [2 * i + 5 for i in range(10)]
    assert ns.map_blocks(f, x, times=x.array[1], add=1, third=0).array.tolist() == [i + 1 for i in range(10)]


@pytest.mark.parametrize("f", [np.sqrt, np.negative, abs, lambda b: b.astype("S5"), lambda b: b > 3, lambda b: b * 1j])
def test_the_dtype_is_that_of_what_the_function_gives(f):
    x = np.arange(12.0).reshape(3, 4)
    assert same(ns.map_blocks(f, x, chunks=2).array, f(x))


def test_a_dtype_that_is_given_is_cast_to_and_the_function_is_called_for_blocks_only():
    f = Noted()
    f.f = lambda block: block.astype(float) / 3
    a = ns.map_blocks(f, np.arange(6), dtype="f4", chunks=2)
    assert same(a.array, (np.arange(6) / 3).astype("f4"))
    assert [sizes for _, sizes, _ in f.blocks_of_all()] == [(2,)] * 3


def test_what_the_function_gives_may_be_any_array_like():
    a = ns.map_blocks(lambda block: [[2.5] * block.shape[1]] * len(block), np.zeros((4, 6)), chunks=2)
    assert same(a.array, np.full((4, 6), 2.5))


def test_without_chunks_every_rank_has_blocks_and_none_is_larger_than_4_mib():
    f = Noted()
    ns.map_blocks(f, np.zeros((8 * world.size, 3)))
    assert len(f.blocks_of_all()) == 4 * world.size
    f = Noted()
    ns.map_blocks(f, np.zeros((20, 1 << 20), "u1"))
    assert all(math.prod(sizes) <= 4 << 20 for _, sizes, _ in f.blocks_of_all())


def test_an_array_like_of_its_own_on_every_rank():
    assert ns.map_blocks(lambda b: b + 1, [[1, 2], [3, 4]], chunks=1).array.tolist() == [[2, 3], [4, 5]]


def test_on_communicators_of_their_own():
    comm = MPI.COMM_WORLD.Split(world.rank % 2, -world.rank)
    x = ns.full((5, 4), world.rank % 2, comm=comm)
    a = ns.map_blocks(lambda b: b + 1, x, chunks=2)  # that of a
    assert a.topology == x.topology and a.array.tolist() == [[world.rank % 2 + 1] * 4] * 5
    mine = ns.map_blocks(lambda b: b + world.rank, np.zeros(5), comm=MPI.COMM_SELF)
    assert mine.array.tolist() == [world.rank] * 5
    del a, x
    comm.Free()


# --- into an array --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("orders", ["CC", "CF", "FC", "FF"])
def test_the_result_goes_into_an_array(orders):
    x = content("f8", (7, 5), order=orders[0])
    out = ns.zeros((7, 5), "f4", order=orders[1])
    assert ns.map_blocks(np.negative, x, chunks=(3, 2), out=out) is out
    assert same(out.array, (-x).astype("f4"))


def test_in_place():
    x = ns.array(np.arange(35.0).reshape(7, 5), writable=True)
    for a in (x, x.array):
        ns.map_blocks(lambda b: b + 1, a, chunks=(2, 3), out=x)
    assert same(x.array, np.arange(35.0).reshape(7, 5) + 2)


def test_an_array_in_an_arena():
    with ns.arena(1 << 14) as pool:
        first, second = pool.zeros((3, 4)), pool.ones((3, 4))
        ns.map_blocks(lambda b: b + 1, second, chunks=2, out=second)
        assert (second.array == 2).all() and not first.array.any()


# --- what goes wrong ------------------------------------------------------------------------------------------------

X = np.arange(12.0).reshape(3, 4)
WRONG = {
    "shape": (lambda b: b.sum(axis=0), ["f(block (0, 0), a[0:2, 0:3])", "gave shape (3,)", "(2, 3) is needed"]),
    "a number": (lambda b: b.sum(), ["gave shape ()"]),
    "nothing": (lambda b: None, ["gave None"]),
    "complex": (lambda b: b * 1j, ["complex128", "float64"]),
    "masked": (lambda b: np.ma.array(b), ["MaskedArray"]),
}


@pytest.mark.parametrize("f, words", WRONG.values(), ids=WRONG.keys())
def test_what_does_not_fit_is_refused_by_the_rank_that_has_it(f, words):
    def bad(block, block_id):
        return f(block) if block_id == (0, 0) else block

    error = outcome(lambda: ns.map_blocks(bad, X, chunks=(2, 3), dtype=float))
    failed = world.allgather(type(error) is ns.InvalidArgument)
    assert failed.count(True) == 1
    one_failed(error, failed.index(True), ns.InvalidArgument, *words)


def test_a_function_that_raises_for_one_block_ends_all():
    def f(block, block_id):
        if block_id == (1, 1):
            raise ZeroDivisionError("the last block")
        return block

    error = outcome(lambda: ns.map_blocks(f, X, chunks=(2, 3), dtype=float))
    failed = world.allgather(type(error) is ZeroDivisionError)
    assert failed.count(True) == 1
    one_failed(error, failed.index(True), ZeroDivisionError, "the last block")


def test_a_dtype_that_the_values_do_not_keep_to_is_refused():
    def f(block):
        return block.astype(str) if block.any() else block.astype("U1")

    error = outcome(lambda: ns.map_blocks(f, np.arange(10, 10 + 8 * world.size)))
    some_failed(error, ns.InvalidArgument, "<U1", "another dtype")


def test_a_block_is_read_only():
    def f(block):
        block += 1
        return block

    some_failed(outcome(lambda: ns.map_blocks(f, ns.ones(8 * world.size), dtype=float)), ValueError, "read-only")


BAD = {
    "no function": (lambda: ns.map_blocks(None, X), ["f is a NoneType"]),
    "no array": (lambda: ns.map_blocks(copied, {1: 2}), ["dict"]),
    "masked": (lambda: ns.map_blocks(copied, np.ma.array(X)), ["MaskedArray"]),
    "no chunks": (lambda: ns.map_blocks(copied, X, chunks=0), ["chunks is 0", "-1"]),
    "negative chunks": (lambda: ns.map_blocks(copied, X, chunks=(2, -2)), ["chunks is (2, -2)"]),
    "chunks of one axis": (lambda: ns.map_blocks(copied, X, chunks=(2,)), ["chunks is (2,)", "(3, 4)"]),
    "chunks that do not add up": (lambda: ns.map_blocks(copied, X, chunks=((2, 2), 4)), ["(2, 2)", "add up to 3"]),
    "chunks of nothing": (lambda: ns.map_blocks(copied, X, chunks=((3, 0), 4)), ["(3, 0)"]),
    "words": (lambda: ns.map_blocks(copied, X, chunks="auto"), ["chunks is 'auto'"]),
    "fractions": (lambda: ns.map_blocks(copied, X, chunks=(1.5, 2)), ["1.5"]),
    "objects": (lambda: ns.map_blocks(copied, X, dtype=object), ["objects"]),
    "text without a length": (lambda: ns.map_blocks(copied, X, dtype="U"), ["without a length"]),
    "subarrays": (lambda: ns.map_blocks(copied, X, dtype=("f8", 3)), ["subarray"]),
    "no dtype": (lambda: ns.map_blocks(lambda b: b[2], X), ["pass dtype=", "IndexError"]),
    "an ndarray": (lambda: ns.map_blocks(copied, X, out=X), ["out is a ndarray"]),
    "another shape": (lambda: ns.map_blocks(copied, X, out=ns.zeros((4, 3))), ["(4, 3)", "(3, 4)"]),
    "two dtypes": (lambda: ns.map_blocks(copied, X, dtype="f4", out=ns.zeros((3, 4))), ["float64", "f4"]),
    "read-only": (lambda: ns.map_blocks(copied, X, out=ns.array(X)), ["read-only"]),
    "unknown words": (lambda: ns.map_blocks(copied, X, times=3), ["TypeError", "times"]),
}


@pytest.mark.parametrize("call, words", BAD.values(), ids=BAD.keys())
def test_bad_arguments_are_refused(call, words):
    told(outcome(call), ns.InvalidArgument, *words)


def test_an_out_that_overlaps_is_refused():
    x = ns.zeros((6, 4))
    for a in (x.array[::-1], x.array.reshape(4, 6).T):
        told(outcome(lambda: ns.map_blocks(copied, a, out=x)), ns.InvalidArgument, "overlaps")  # noqa: B023
    y = own(np.arange(24).reshape(6, 4))
    told(outcome(lambda: ns.map_blocks(copied, y.array[::-1], out=y)), ns.InvalidArgument, "overlaps")


@pytest.mark.ranks(2, 3, 5)
@pytest.mark.timeout(15)
def test_what_one_rank_alone_gets_wrong_is_told_to_all():
    one_failed(outcome(lambda: ns.map_blocks(only(LAST, 3, abs), X)), LAST, ns.InvalidArgument, "f is a int")
    chunks = only(LAST, 0, 2)
    one_failed(outcome(lambda: ns.map_blocks(abs, X, chunks=chunks)), LAST, ns.InvalidArgument, "chunks is 0")
    f = only(LAST, lambda b: 1 // 0, abs)
    one_failed(outcome(lambda: ns.map_blocks(f, X)), LAST, ns.InvalidArgument, "ZeroDivisionError")


DIFFERENT = {
    "shapes": lambda: ns.map_blocks(abs, only(LAST, X, X[:2])),
    "dtypes of a": lambda: ns.map_blocks(abs, only(LAST, X, X.astype("f4")), dtype="f8"),
    "orders": lambda: ns.map_blocks(abs, only(LAST, X, np.asfortranarray(X))),
    "chunks": lambda: ns.map_blocks(abs, X, chunks=only(LAST, ((1, 2), 2), ((2, 1), 2))),
    "dtypes": lambda: ns.map_blocks(abs, X, dtype=only(LAST, "f4", "f8")),
    "functions": lambda: ns.map_blocks(only(LAST, abs, np.isnan), X),
}


@pytest.mark.ranks(2, 3, 5)
@pytest.mark.timeout(15)
@pytest.mark.parametrize("call", DIFFERENT.values(), ids=DIFFERENT.keys())
def test_ranks_that_ask_for_different_things_are_a_mismatch(call):
    told(outcome(call), ns.Mismatch, "map_blocks(", f"rank {LAST}")


# --- what a node has computed ---------------------------------------------------------------------------------------


@pytest.mark.ranks(1)
@pytest.mark.parametrize("counts", [(), (7,), (3, 4), (2, 3, 4), (1, 5, 1, 2), (2, 1, 1)], ids=str)
def test_a_range_of_blocks_is_a_few_boxes(counts):
    n = math.prod(counts)
    numbers = np.arange(n).reshape(counts)
    for first in range(n + 1):
        for last in range(first, n + 1):
            boxes = list(_boxes(first, last, counts))
            inside = [numbers[tuple(slice(*one) for one in box)].ravel() for box in boxes]
            assert sorted(np.concatenate([[], *inside])) == list(range(first, last))
            assert len(boxes) <= max(1, 2 * len(counts) - 1)
