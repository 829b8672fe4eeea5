# SPDX-License-Identifier: BSD-3-Clause
"""Every rank's part, put one after another, whole on every node."""

import numpy as np
import pytest
from mpi4py import MPI
from support import DTYPES, LAST, content, leaves_nothing, one_failed, only, outcome, same, told, world  # noqa: F401

import nodeshare as ns

pytestmark = pytest.mark.usefixtures("leaves_nothing")

COUNTS = {
    "one each": lambda rank: 1,
    "more and more": lambda rank: 2 * rank + 3,
    "fewer and fewer": lambda rank: world.size - 1 - rank,
    "the last alone": lambda rank: 5 * (rank == LAST),
    "each second": lambda rank: 4 * (rank % 2 == 0),
    "none": lambda rank: 0,
}


def expected_and_mine(dtype, shape, axis=0, count=COUNTS["more and more"], order="C"):
    """Return the whole array, with `shape` beside `axis`, and this rank's part of it."""
    edges = np.cumsum([0] + [count(rank) for rank in range(world.size)])
    shape = list(shape)
    shape[axis] = edges[-1]
    whole = content(dtype, shape, 3, order)
    index = [slice(None)] * len(shape)
    index[axis] = slice(edges[world.rank], edges[world.rank + 1])
    return whole, whole[tuple(index)]


@pytest.mark.parametrize("dtype", DTYPES)
def test_parts_of_every_dtype_make_the_whole(dtype):
    expected, mine = expected_and_mine(dtype, (0, 3))
    for order in "CF":
        a = ns.from_parts(mine, order=order)
        assert same(a.array, expected)
        assert a.order == order and a.array.strides == content(dtype, expected.shape, order=order).strides
        assert not a.array.flags.writeable


@pytest.mark.parametrize("count", COUNTS.values(), ids=COUNTS.keys())
@pytest.mark.parametrize("shape", [(0,), (0, 2), (0, 0), (0, 3, 2)], ids=str)
def test_ranks_bring_as_many_rows_as_they_have(shape, count):
    expected, mine = expected_and_mine("i4", shape, 0, count)
    assert same(ns.from_parts(mine).array, expected)


@pytest.mark.parametrize("lies", ["C", "F", "backwards", "with gaps"])
@pytest.mark.parametrize("axis", [0, 1, 2, -1, np.int8(-3)])
def test_parts_along_every_axis_however_they_lie(axis, lies):
    expected, mine = expected_and_mine("u2", (2, 3, 4), axis)
    if lies == "backwards":
        mine = mine[::-1, :, ::-1].copy()[::-1, :, ::-1]
    elif lies == "with gaps":
        mine = np.repeat(mine, 2, axis=1)[:, ::2]
    else:
        mine = np.array(mine, order=lies)
    for order in "CF":
        assert same(ns.from_parts(mine, axis, order=order).array, expected)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(0,), (3, 0)], ids=str)
def test_parts_of_many_megabytes(shape, order):
    each = 4_200_001 // max(shape[0], 1)
    expected, mine = expected_and_mine("u1", shape, -1, lambda rank: each + rank)
    a = ns.from_parts(np.array(mine, order=order), -1, order=order)
    assert same(a.array, expected)


def test_into_used_memory():
    for size in (700_000, 500_000):
        for _ in range(2):
            expected, mine = expected_and_mine("i8", (0,), 0, lambda rank: size + rank)  # noqa: B023
            assert same(ns.from_parts(mine).array, expected)


def test_parts_may_be_lists_strings_and_shared():
    whole = list(range(3 * world.size))
    assert ns.from_parts(whole[3 * world.rank : 3 * world.rank + 3]).array.tolist() == whole
    assert ns.from_parts(["ab", "c"]).array.tolist() == ["ab", "c"] * world.size
    a = ns.full(4, 2.5)
    assert ns.from_parts(a).array.tolist() == [2.5] * (4 * world.size)


def test_the_whole_may_be_written_and_is_not_the_parts():
    mine = np.arange(3)
    a = ns.from_parts(mine, writable=True)
    a.local[...] = -1
    a.sync()
    assert (a.array == -1).all() and mine.tolist() == [0, 1, 2]


def test_on_communicators_of_other_orders():
    comm = MPI.COMM_WORLD.Split(world.rank % 2, -world.rank)
    a = ns.from_parts([comm.rank, world.rank], comm=comm)
    assert a.array.tolist() == [n for pair in enumerate(range(world.size)[world.rank % 2 :: 2][::-1]) for n in pair]
    assert ns.from_parts([7], comm=MPI.COMM_SELF).array.tolist() == [7]
    comm.Free()


def test_it_is_numpy_s_concatenate():
    random = np.random.default_rng(5)
    for _ in range(20):
        ndim = int(random.integers(1, 4))
        axis = int(random.integers(ndim))
        shapes = [random.integers(0, 4, ndim)] * world.size
        shapes = [np.where(np.arange(ndim) == axis, random.integers(0, 5), shape) for shape in shapes]
        parts = [content("f4", shape, rank) for rank, shape in enumerate(shapes)]
        order = "CF"[random.integers(2)]
        assert same(ns.from_parts(parts[world.rank], axis, order=order).array, np.concatenate(parts, axis))


# --- what is refused ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "part, words",
    [
        (None, ["part is None", "np.empty((0, 3))"]),
        (3.5, ["0-d", "reshape(1)"]),
        (np.array([object()]), ["objects"]),
        (np.ma.masked_array([1, 2], [0, 1]), ["MaskedArray"]),
        ([[1], [2, 3]], []),
    ],
    ids=["None", "0-d", "objects", "masked", "ragged"],
)
def test_what_is_no_part_is_refused_by_all_or_by_one(part, words):
    told(outcome(lambda: ns.from_parts(part)), ns.InvalidArgument, *words)
    one_failed(outcome(lambda: ns.from_parts(only(LAST, part, np.ones((2, 2))))), LAST, ns.InvalidArgument, *words)


@pytest.mark.parametrize("axis", [1, -2, None, 0.0, "0"], ids=repr)
def test_an_axis_that_is_not_there_is_refused(axis):
    told(outcome(lambda: ns.from_parts([1, 2], axis)), ns.InvalidArgument, "axis", repr(axis))


@pytest.mark.parametrize("order", ["A", None, "K"])
def test_an_order_that_is_not_there_is_refused(order):
    told(outcome(lambda: ns.from_parts([1, 2], order=order)), ns.InvalidArgument, "order", repr(order))


@pytest.mark.ranks(2, 3, 5)
@pytest.mark.parametrize(
    "part, axis, other, words",
    [
        (np.ones((2, 4)), 0, 0, ["('any', 4)", "('any', 3)"]),
        (np.ones((2, 3, 1)), 0, 0, ["('any', 3, 1)", "('any', 3)"]),
        (np.ones((3, 3)), 1, 1, ["(3, 'any')", "(2, 'any')"]),
        (np.ones((2, 3), "f4"), 0, 0, ["<f4", "<f8"]),
        (np.ones((2, 3), ">f8"), 0, 0, [">f8", "<f8"]),
        (np.ones((2, 3), "f8,f8"), 0, 0, ["f1: <f8", "<f8"]),
        (np.ones((2, 3)), 1, 0, ["axis=1", "axis=0"]),
    ],
    ids=["extent", "axes", "extent beside axis 1", "dtype", "byte order", "record", "axis"],
)
def test_parts_that_do_not_fit_are_named_with_their_rank(part, axis, other, words):
    mine = only(LAST, part, np.ones((2, 3)))
    error = outcome(lambda: ns.from_parts(mine, only(LAST, axis, other)))
    told(error, ns.Mismatch, f"rank {LAST}", "rank 0", "test_from_parts.py:", *words)


@pytest.mark.ranks(2, 3, 5)
def test_writable_on_one_rank_only_is_a_mismatch():
    told(outcome(lambda: ns.from_parts([1], writable=world.rank == LAST)), ns.Mismatch, "writable")


def test_parts_too_large_together_are_no_memory_and_the_job_goes_on():
    huge = np.broadcast_to(np.uint8(1), (1 << 45,))
    assert isinstance(outcome(lambda: ns.from_parts(huge)), ns.OutOfSharedMemory)
    endless = np.broadcast_to(np.uint8(1), (1 << 62,))
    told(outcome(lambda: ns.from_parts(endless, comm=MPI.COMM_SELF)), ns.OutOfSharedMemory)
    if world.size > 1:
        told(outcome(lambda: ns.from_parts(endless)), ns.InvalidArgument, "too large")
