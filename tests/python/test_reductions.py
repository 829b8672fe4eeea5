# SPDX-License-Identifier: BSD-3-Clause
"""allreduce and allreduce_copies: what NumPy gives, in one order, with the same bits on every node."""

from functools import reduce

import numpy as np
import pytest
from mpi4py import MPI
from support import LAST, by_node, content, leaves_nothing, one_failed, only, outcome, told, world  # noqa: F401

import nodeshare as ns

several = pytest.mark.ranks(2, 3, 5)
CHUNKS = (1 << 20) + 5  # elements of 8 bytes: many chunks on a node, several ranges between nodes

UFUNCS = {
    "sum": np.add,
    "prod": np.multiply,
    "min": np.minimum,
    "max": np.maximum,
    "band": np.bitwise_and,
    "bor": np.bitwise_or,
    "bxor": np.bitwise_xor,
    "land": np.logical_and,
    "lor": np.logical_or,
    "lxor": np.logical_xor,
}
OF_INTEGERS = list(UFUNCS)
OF_FLOATS = ["sum", "prod", "min", "max"]
ALLOWED = {kind: OF_INTEGERS for kind in "i1 u1 i2 u2 i4 u4 i8 u8 q Q".split()}
ALLOWED |= {kind: OF_FLOATS for kind in ("e", "f4", "f8", "g")} | {kind: ["sum", "prod"] for kind in "FDG"}
ALLOWED |= {"?": ["land", "lor", "lxor"]}
REFUSED = [("f8", "band"), ("e", "lor"), ("D", "max"), ("F", "land"), ("?", "sum"), ("?", "bor")]


def nodes_in_order():
    """Return the ranks of each node."""
    topology = ns.topology()
    return [topology.ranks_on(node) for node in range(topology.nodes)]


def combined(values, op):
    """Return what the ranks' values make: on each node by rank, then by node."""

    def fold(some):
        return reduce(lambda a, b: UFUNCS[op](a, b).astype(values[0].dtype), some)

    with np.errstate(over="ignore"):
        return fold([fold([values[rank] for rank in ranks]) for ranks in nodes_in_order()])


def same_everywhere(a):
    """Whether all ranks, and so all nodes, see the same bits."""
    return len(set(world.allgather(a.array.tobytes()))) == 1


def is_right(a, values, op="sum"):
    """Whether it is what NumPy makes of the values, with the same bits everywhere."""
    expected = combined(values, op)
    if a.dtype.kind == "c" and op == "prod":  # NumPy may round a sum of two products once
        assert np.allclose(a.array, expected, rtol=1e-5)
    else:
        assert np.array_equal(a.array, expected)
    return a.dtype.char in "gG" or same_everywhere(a)  # long doubles have padding


def brought(dtype, shape, order="C"):
    """Return what each rank brings."""
    return [content(dtype, shape, 10 * rank, order) for rank in range(world.size)]


# --- what is combined -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALLOWED)
def test_every_number_is_combined_as_numpy_does(kind):
    values = brought(kind, (5, 3))
    a = ns.zeros((5, 3), kind, order="F")
    for op in ALLOWED[kind]:
        by_node(a, 7)  # is overwritten
        a.allreduce(values[world.rank], op)
        assert is_right(a, values, op), op
        a.sync()


@pytest.mark.parametrize("kind, op", REFUSED)
def test_operations_that_are_not_for_the_elements_are_refused_and_name_those_that_are(kind, op):
    a = ns.zeros(3, kind)
    mine = np.zeros(3, kind)
    for call in (lambda: a.allreduce(mine, op), lambda: a.allreduce_copies(op)):
        told(outcome(call), ns.InvalidArgument, f"no {op} of {a.dtype.name}", "allowed are")
    a.sync()


@pytest.mark.parametrize("kind", ["M8[s]", "m8[D]", "S3", "U2", "V4", [("x", "f8")], ">i4", ">f8", ">c16"], ids=str)
def test_elements_that_are_no_numbers_of_this_machine_are_refused_and_named(kind):
    a = ns.zeros(3, kind)
    for call in (lambda: a.allreduce(a.array), lambda: a.allreduce_copies()):
        told(outcome(call), ns.InvalidArgument, "what can be combined is")
    a.sync()


@pytest.mark.parametrize(
    "op", ["Sum", "", "add", None, 3, np.add, MPI.MAXLOC, MPI.MINLOC, MPI.OP_NULL, MPI.REPLACE], ids=str
)
def test_what_is_no_operation_is_refused(op):
    a = ns.zeros(3)
    told(outcome(lambda: a.allreduce(np.zeros(3), op)), ns.InvalidArgument, "sum prod min max")
    told(outcome(lambda: a.allreduce_copies(op)), ns.InvalidArgument, "sum prod min max")


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0, 3), (2,), (CHUNKS,), (3, 50_001)], ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
def test_arrays_of_every_size_are_combined(shape, order):
    values = brought(float, shape)
    a = ns.zeros(shape, order=order)
    a.allreduce(values[world.rank])
    assert is_right(a, values)
    a.sync()
    a.allreduce_copies("max")  # of equal ones
    assert is_right(a, values)


def test_the_same_bits_come_out_every_time_also_where_the_order_of_a_sum_matters():
    values = [np.random.default_rng(rank).standard_normal(70_001) * 10.0 ** (rank * 5) for rank in range(world.size)]
    a = ns.zeros(70_001)
    for _ in range(3):
        a.allreduce(values[world.rank])
        assert is_right(a, values)
        a.sync()


@several
@pytest.mark.parametrize("kind", "gG")
def test_the_bytes_that_pad_long_doubles_are_the_same_every_time(kind):
    values = brought(kind, 1001)
    a = ns.zeros(1001, kind)
    numbers = set()
    for _ in range(3):
        for one in values:
            one.view("u1").reshape(-1, 16)[:, 10:] += np.uint8(world.rank + 3)
        a.allreduce(values[world.rank])
        numbers.add(a.checksum())
    assert len(numbers) == 1


def test_a_nan_makes_min_and_max_nan():
    mine = np.array([np.nan if world.rank == 0 else 1, np.nan if world.rank == LAST else 2, 3], "f2")
    a = ns.zeros(3, "f2")
    for op in ("min", "max"):
        a.sync()
        a.allreduce(mine, op)
        assert np.isnan(a.array[:2]).all() and a.array[2] == 3


def test_operations_of_mpi_are_those_of_the_same_name():
    values = brought("i4", 9)
    a = ns.zeros(9, "i4")
    for name in UFUNCS:
        a.sync()
        a.allreduce(values[world.rank], only(0, getattr(MPI, name.upper()), name))
        assert is_right(a, values, name)


def test_arrays_of_an_arena_are_combined_and_their_neighbours_left_alone():
    arena = ns.arena(1 << 16)
    before, a, behind = arena.ones(7), arena.zeros(1001), arena.ones(7)
    arena.sync()
    values = brought(float, 1001)
    a.allreduce(values[world.rank])
    assert is_right(a, values)
    by_node(a)
    a.allreduce_copies()
    assert np.array_equal(a.array, sum(content(float, 1001, node) for node in range(a.topology.nodes)))
    assert (before.array == 1).all() and (behind.array == 1).all()


def test_sub_communicators_combine_what_their_ranks_bring():
    comm = MPI.COMM_WORLD.Split(world.rank % 2, -world.rank)
    a = ns.zeros(5, int, comm=comm)
    a.allreduce(np.full(5, world.rank))
    assert a.array.tolist() == [sum(range(world.rank % 2, world.size, 2))] * 5
    comm.Free()


@pytest.mark.parametrize("shape", [(), (7,), (CHUNKS,)], ids=str)
def test_copies_of_nodes_are_combined_in_the_order_of_the_nodes(shape):
    a = ns.zeros(shape, "f4")
    by_node(a)
    a.allreduce_copies()
    expected = reduce(np.add, [content("f4", shape, node) for node in range(a.topology.nodes)])
    assert np.array_equal(a.array, expected) and same_everywhere(a)


@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.ranks(3)
def test_more_elements_and_bytes_than_32_bits_count_are_combined_and_copied():
    n = (1 << 32) + 5
    if world.allreduce(ns._core.memory_available() or 0, MPI.MIN) < 3 * n:
        pytest.skip("needs 12 GiB of memory")
    marks = np.array([0, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, n - 1])
    mine = np.zeros(n, "u1")  # of no memory as long as nobody writes
    mine[marks] = np.arange(1, 7) + world.rank
    expected = sum(np.arange(1, 7) + rank for rank in range(world.size))
    a = ns.empty(n, "u1")

    def is_right():
        start, stop = a.rows()
        inside = marks[(marks >= start) & (marks < stop)]
        return np.array_equal(a.array[marks], expected) and np.count_nonzero(a.local) == inside.size

    a.allreduce(mine)
    assert is_right()
    number = a.checksum()
    a.allreduce_copies("max")
    assert is_right()
    a.bcast(LAST)
    a.allgather()
    assert a.checksum() == number
    a.close()
    ns.trim()


# --- what a rank brings ---------------------------------------------------------------------------------------------

AS = {
    "list": lambda v: v.tolist(),
    "nested tuple": lambda v: tuple(map(tuple, v.tolist())),
    "Fortran order": np.asfortranarray,
    "every second": lambda v: np.repeat(v, 2, axis=1)[:, ::2],
    "backwards": lambda v: v[::-1].copy()[::-1],
    "transposed": lambda v: v.T.copy().T,
    "read-only": lambda v: np.broadcast_to(v, v.shape),
    "unaligned": lambda v: np.frombuffer(b"x" + v.tobytes(), "u1")[1:].view(v.dtype).reshape(v.shape),
    "another type": lambda v: v.astype("f4"),
    "integers": lambda v: v.astype("i2"),
    "big-endian": lambda v: v.astype(">f8"),
    "memoryview": memoryview,
    "handle": lambda v: ns.array(v, comm=MPI.COMM_SELF),
}


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("convert", AS.values(), ids=AS.keys())
def test_contributions_of_every_form_are_the_same(convert, order):
    values = [np.floor(one) for one in brought(float, (211, 7))]  # exact in all types
    a = ns.zeros((211, 7), order=order)
    a.allreduce(convert(values[world.rank]))
    assert is_right(a, values)


def test_contributions_may_differ_in_form_and_go_in_many_chunks():
    values = [np.floor(one) for one in brought("f4", (CHUNKS // 8, 16))]
    a = ns.zeros((CHUNKS // 8, 16), "f4")
    a.allreduce(only(LAST, values[world.rank].T.astype("f8").copy().T, values[world.rank]))
    assert is_right(a, values)


def test_a_number_is_a_contribution_to_a_0_d_array():
    a = ns.zeros((), int)
    a.allreduce(world.rank + 1)
    assert a.array[()] == sum(range(1, world.size + 1))


def test_the_array_itself_may_be_the_contribution():
    for order in "CF":
        a = ns.zeros((1003, 101), "i4", order=order)
        by_node(a)
        a.allreduce(a)
        of_nodes = [content("i4", (1003, 101), node) for node in range(a.topology.nodes)]
        assert np.array_equal(a.array, sum(of_nodes[a.topology.node_of(rank)] for rank in range(world.size)))


OVERLAPPING = {
    "backwards": lambda a: a[::-1],
    "transposed": lambda a: a.T,
    "one row for all": lambda a: np.broadcast_to(a[0], a.shape),
    "other order": lambda a: a.T.T[:, ::-1],
}


@several
@pytest.mark.parametrize("view", OVERLAPPING.values(), ids=OVERLAPPING.keys())
def test_a_contribution_that_overlaps_the_array_is_refused(view):
    a = ns.zeros((5, 5))
    error = outcome(lambda: a.allreduce(only(LAST, view(a.array), np.zeros((5, 5)))))
    one_failed(error, LAST, ns.InvalidArgument, "overlaps")


WRONG = {
    "shape": (lambda: np.zeros(4), "(4,)"),
    "broadcast": (lambda: 1.0, "broadcast"),
    "row": (lambda: np.zeros((1, 3)), "(1, 3)"),
    "complex": (lambda: np.zeros(3, complex), "kind"),
    "text": (lambda: ["1", "2", "3"], "kind"),
    "dates": (lambda: np.zeros(3, "M8[s]"), "kind"),
    "objects": (lambda: [object()] * 3, "kind"),
    "None": (lambda: None, "()"),
    "records": (lambda: np.zeros(3, "f8, f8"), "kind"),
    "masked": (lambda: np.ma.zeros(3), "masked"),
}


@pytest.mark.usefixtures("leaves_nothing")
@pytest.mark.parametrize("wrong, word", WRONG.values(), ids=WRONG.keys())
def test_a_contribution_that_does_not_fit_is_refused(wrong, word):
    a = ns.zeros(3)
    told(outcome(lambda: a.allreduce(wrong())), ns.InvalidArgument, "contribution", word)
    error = outcome(lambda: a.allreduce(only(0, wrong(), np.zeros(3))))
    one_failed(error, 0, ns.InvalidArgument, "contribution", word)


def test_unsigned_arrays_refuse_signed_contributions():
    a = ns.zeros(3, "u4")
    told(outcome(lambda: a.allreduce([1, 2, 3])), ns.InvalidArgument, "<i8", "<u4")


class Raises:
    """Something that np.asarray fails on."""

    def __array__(self, dtype=None, copy=None):
        raise OSError("the disk is gone")


@several
@pytest.mark.usefixtures("leaves_nothing")
def test_a_contribution_that_raises_on_one_rank_is_told_to_all():
    a = ns.zeros(3)
    one_failed(outcome(lambda: a.allreduce(only(LAST, Raises(), np.zeros(3)))), LAST, OSError, "the disk is gone")


@several
@pytest.mark.usefixtures("leaves_nothing")
@pytest.mark.parametrize("bad", sorted({0, LAST}))
def test_a_contribution_whose_conversion_raises_in_the_middle_is_told_to_all(bad):
    a = ns.zeros(CHUNKS, "f4")
    mine = np.zeros(CHUNKS)
    mine[-1] = 1e300 if world.rank == bad else 0
    with np.errstate(over="raise"):
        error = outcome(lambda: a.allreduce(mine))
    one_failed(error, bad, FloatingPointError, "overflow")


# --- ranks that differ ----------------------------------------------------------------------------------------------


@several
@pytest.mark.usefixtures("leaves_nothing")
def test_ranks_that_ask_for_different_things_all_hear_of_it():
    a, b = ns.zeros(3), ns.zeros(3)
    mine = np.zeros(3)
    told(outcome(lambda: a.allreduce(mine, only(0, "min", "max"))), ns.Mismatch, "op=min", "op=max")
    told(outcome(lambda: only(0, a, b).allreduce(mine)), ns.Mismatch, "allreduce")
    told(
        outcome(lambda: a.allreduce(mine) if world.rank == 0 else a.allreduce_copies()), ns.Mismatch, "allreduce_copies"
    )
    error = outcome(lambda: a.allreduce(mine, only(LAST, "maximum", "max")))
    one_failed(error, LAST, ns.InvalidArgument, "maximum")


def test_a_read_only_array_is_refused_and_thaw_is_named():
    a = ns.array(np.zeros(3))
    told(outcome(lambda: a.allreduce(np.zeros(3))), ns.InvalidArgument, "thaw")
    told(outcome(lambda: a.allreduce_copies()), ns.InvalidArgument, "thaw")


def test_a_closed_array_says_so():
    a = ns.zeros(3)
    a.close()
    told(outcome(lambda: a.allreduce(np.zeros(3))), ns.Error, "closed")


# --- operations of the user's own -----------------------------------------------------------------------------------


def keep_left(commute):
    """Return an operation of which it shows in which order it was used."""

    def function(left, right, datatype):
        right[:] = left

    return MPI.Op.Create(function, commute=commute)


def test_an_operation_made_by_the_user_combines_in_the_order_of_the_ranks():
    values = brought(float, 30_001)
    a = ns.zeros(30_001)
    op = keep_left(commute=False)
    nodes = [a.topology.node_of(rank) for rank in range(world.size)]
    if nodes == sorted(nodes):
        a.allreduce(values[world.rank], op)
        assert np.array_equal(a.array, values[0]) and same_everywhere(a)
    else:
        told(outcome(lambda: a.allreduce(values[world.rank], op)), ns.InvalidArgument, "consecutive")
    op.Free()


@pytest.mark.parametrize("kind", ["i2", "f4", "D", "?", "g"])
def test_an_operation_made_by_the_user_takes_all_types_of_mpi(kind):
    def bytes_or(left, right, datatype):
        mine, theirs = np.frombuffer(left, "u1"), np.frombuffer(right, "u1")
        theirs |= mine

    op = MPI.Op.Create(bytes_or, commute=True)
    values = [np.zeros(9, kind) for _ in range(world.size)]
    for rank, one in enumerate(values):
        one[rank % 9] = 1
    a = ns.zeros(9, kind)
    a.allreduce(values[world.rank], op)
    assert np.array_equal(a.array, reduce(np.maximum, values)) and same_everywhere(a)
    op.Free()


def test_an_operation_made_by_the_user_is_not_for_float16():
    op = keep_left(commute=True)
    a = ns.zeros(3, "f2")
    told(outcome(lambda: a.allreduce(np.zeros(3, "f2"), op)), ns.InvalidArgument, "float16", "MPI has no type")
    op.Free()
