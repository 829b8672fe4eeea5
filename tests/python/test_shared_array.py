# SPDX-License-Identifier: BSD-3-Clause
"""The handle: NumPy's words, zero-copy, and letting go in any order."""

import copy
import gc
import mmap
import os
import weakref

import numpy as np
import pytest
from mpi4py import MPI
from support import DTYPES, address, alive, content, outcome, same, told, world

import nodeshare as ns

INPLACE = "iadd isub imul imatmul itruediv ifloordiv imod ipow ilshift irshift iand ixor ior".split()


def own(values, **options):
    """Return a writable array of this rank alone."""
    return ns.array(values, comm=MPI.COMM_SELF, writable=True, **options)


def test_a_handle_tells_what_it_is_in_numpy_s_words():
    a = ns.zeros((4, 3), "f4", order="F")
    assert (a.shape, a.dtype, a.ndim, a.size, a.nbytes, a.order) == ((4, 3), np.dtype("f4"), 2, 12, 48, "F")
    assert a.topology == ns.topology()
    assert type(a.array) is np.ndarray


def test_array_is_the_same_object_each_time():
    a = ns.zeros(3)
    assert a.array is a.array
    assert ns.handle(a) is a


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_asarray_is_zero_copy_for_every_dtype(dtype, order):
    a = own(content(dtype, (4, 3), order=order))
    seen = np.asarray(a)
    assert same(seen, content(dtype, (4, 3)))
    assert seen.strides == a.array.strides and address(seen) == address(a.array)
    assert seen.flags.writeable


@pytest.mark.parametrize("shape", [(), (0,), (0, 3)], ids=str)
def test_asarray_of_0_d_and_empty_arrays(shape):
    a = own(content("f8", shape))
    assert same(np.asarray(a), content("f8", shape))


def test_conversions_copy_only_when_they_must():
    a = own([1.0, 2.0])
    assert np.shares_memory(np.asarray(a, dtype=float), a.array)
    assert not np.shares_memory(np.array(a), a.array)
    assert not np.shares_memory(a.copy(), a.array) and type(a.copy()) is np.ndarray
    assert np.asarray(a, dtype="f4").dtype == np.dtype("f4")
    if np.lib.NumpyVersion(np.__version__) >= "2.0.0":
        assert isinstance(outcome(lambda: np.asarray(a, dtype="f4", copy=False)), ValueError)


WAYS = {
    "array": lambda a: a.array,
    "asarray": np.asarray,
    "slice": lambda a: a[1:],
    "other type": lambda a: a.array.view("u1"),
    "local": lambda a: a.part(0),
    "memoryview": lambda a: np.asarray(memoryview(a)),
    "handle": lambda a: ns.handle(a.array[1:]).array,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_an_input_cannot_be_made_writable_again(way):
    a = ns.array(np.arange(4.0))
    view = way(a)
    assert not view.flags.writeable
    assert isinstance(outcome(lambda: view.setflags(write=True)), ValueError)
    base = view.base
    while isinstance(base, np.ndarray):
        assert isinstance(outcome(lambda base=base: base.setflags(write=True)), ValueError)
        base = base.base


def test_writing_to_an_input_is_an_error():
    a = ns.array([1, 2, 3])
    for write in (
        lambda: a.__setitem__(0, 7),
        lambda: a.array.fill(7),
        lambda: a.local.fill(7),
        lambda: np.add(a, 1, out=a),
        lambda: np.copyto(a.array, 7),
    ):
        assert isinstance(outcome(write), ValueError)
    assert a.array.tolist() == [1, 2, 3]


def test_freeze_and_thaw_give_new_views_and_leave_old_ones():
    a = ns.zeros(3)
    before = a.array
    a.freeze()
    frozen = a.array
    assert (before.flags.writeable, frozen.flags.writeable) == (True, False)
    a.thaw()
    assert a.array.flags.writeable and not frozen.flags.writeable
    assert address(before) == address(frozen) == address(a.array)


def test_an_input_can_be_thawed():
    a = ns.array([1.0, 2.0])
    a.thaw()
    with a.writing(root=0) as w:
        if w is not None:
            w[0] = 5
    assert a.array.tolist() == [5, 2]


@pytest.mark.parametrize("protect", [False, True])
def test_freezing_concerns_this_rank_only(protect):
    a = ns.zeros(world.size)
    if world.rank == 0:
        a.freeze(protect)
    a.sync()
    assert a.array.flags.writeable == (world.rank != 0)
    if world.rank != 0:
        a[world.rank] = world.rank
    a.sync()
    written = [a[rank] for rank in a.topology.ranks_on(a.topology.node)]
    a.sync()
    a.thaw()
    a[0] = 7
    a.sync()
    assert (written, a[0]) == (a.topology.ranks_on(a.topology.node), 7)


def ends_by_signal(write):
    """Whether a forked child that writes is killed."""
    child = os.fork()
    if child == 0:
        os.close(2)
        write()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_protected_pages_catch_writes_through_old_views_until_thawed():
    a = own(np.zeros(3))
    before = a.array
    a.freeze(protect=True)
    killed = ends_by_signal(lambda: before.fill(1))
    a.thaw()
    before[0] = 2
    assert killed and a[0] == 2


def test_another_handle_of_protected_pages_is_read_only_and_can_be_thawed():
    a = own(np.zeros(3))
    a.freeze(protect=True)
    other = ns.handle(a.array)
    assert not other.array.flags.writeable
    other.thaw()
    assert not ends_by_signal(lambda: other.array.fill(1))


# --- indexing, operators, functions ---------------------------------------------------------------------------------


def test_items_are_read_and_written_as_numpy_s():
    a = own(np.zeros((4, 3)))
    a[1] = [1, 2, 3]
    a[2:, ::2] = 7
    a[a.array == 0] = -1
    assert a[1, 2] == 3 and type(a[1]) is np.ndarray and np.shares_memory(a[1:], a.array)
    assert a.array.tolist() == [[-1, -1, -1], [1, 2, 3], [7, -1, 7], [7, -1, 7]]


def test_fields_of_records():
    a = own(content([("x", "f8"), ("n", "i4")], 3))
    a["n"] = 5
    assert a.array["n"].tolist() == [5, 5, 5] and np.shares_memory(a["x"], a.array)


def test_len_iteration_and_containment():
    a = own([[1, 2], [3, 4], [5, 6]])
    assert len(a) == 3 and [row.tolist() for row in a] == [[1, 2], [3, 4], [5, 6]]
    assert 4 in a and 9 not in a and [row[0] for row in reversed(a)] == [5, 3, 1]
    assert isinstance(outcome(lambda: len(ns.zeros(()))), TypeError)
    assert isinstance(outcome(lambda: iter(ns.zeros(()))), TypeError)


def test_0_d_arrays_convert_to_python_s_numbers():
    a, i = own(2.5), own(3)
    assert (float(a), int(a), complex(a), bool(a)) == (2.5, 2, 2.5 + 0j, True)
    assert [10, 20, 30, 40][i] == 40 and range(int(i)) == range(3)
    assert isinstance(outcome(lambda: float(own([1.0, 2.0]))), TypeError)
    assert isinstance(outcome(lambda: bool(own([1.0, 2.0]))), ValueError)
    assert isinstance(outcome(lambda: [1, 2][own([0, 1])]), TypeError)


def test_operators_give_ndarrays():
    a, b, x = own([1, 2, 3]), own([4, 5, 6]), np.array([7, 8, 9])
    results = [a + b, a + x, x + a, 1 + a, a - 1, a * 2, a / 2, 7 // a, a % 2]
    results += [2**a, a @ b, x @ a, -a, abs(-a), ~a, a << 1]
    values = [[5, 7, 9], [8, 10, 12], [8, 10, 12], [2, 3, 4], [0, 1, 2], [2, 4, 6], [0.5, 1, 1.5], [7, 3, 2], [1, 0, 1]]
    values += [[2, 4, 8], 32, 50, [-1, -2, -3], [1, 2, 3], [-2, -3, -4], [2, 4, 6]]
    assert [np.asarray(result).tolist() for result in results] == values
    assert not any(isinstance(result, ns.SharedArray) for result in results)
    assert [part.tolist() for part in divmod(a, 2)] == [[0, 1, 1], [1, 0, 1]]
    x += a
    assert x.tolist() == [8, 10, 12]


def test_comparison_is_elementwise_and_so_a_handle_is_unhashable():
    a, b = own([1, 2, 3]), own([1, 5, 3])
    assert (a == b).tolist() == [True, False, True] and (a != 2).tolist() == [True, False, True]
    assert (a < b).tolist() == [False, True, False] and (2 <= a).tolist() == [False, True, True]
    assert isinstance(outcome(lambda: hash(a)), TypeError)


def test_a_handle_may_be_out_where_and_reduced():
    a, b, mask = own([1.0, 2.0, 3.0]), own(np.zeros(3)), own([True, False, True])
    assert np.multiply(a, 2, out=b) is b and b.array.tolist() == [2, 4, 6]
    np.add(a, 100, out=b, where=mask)
    assert b.array.tolist() == [101, 4, 103]
    np.add.at(b, [0, 0, 2], 1)
    assert b.array.tolist() == [103, 4, 104]
    c, d = own(np.zeros(3)), own(np.zeros(3))
    np.divmod(a, 2, out=(c, d))
    assert (c.array.tolist(), d.array.tolist()) == ([0, 1, 1], [1, 0, 1])
    assert np.add.reduce(a) == 6 and np.add.accumulate(a).tolist() == [1, 3, 6]
    np.add.reduce(np.ones((2, 3)), axis=0, out=b)
    assert b.array.tolist() == [2, 2, 2]


def test_numpy_s_functions_take_a_handle():
    a = own([[3.0, 1.0], [2.0, 4.0]])
    assert (np.sum(a), np.mean(a), np.max(a), np.median(a), np.std(a)) == (10, 2.5, 4, 2.5, np.std(a.array))
    assert np.sort(a).tolist() == [[1, 3], [2, 4]] and np.argmax(a) == 3
    assert np.concatenate([a, a]).shape == (4, 2) and np.where(a > 2, a, 0).tolist() == [[3, 0], [0, 4]]
    assert np.shape(a) == (2, 2) and np.dot(a, [1, 1]).tolist() == [4, 6] and np.linalg.det(a) == pytest.approx(10)
    out = own([0.0, 0.0])
    assert np.sum(a, axis=0, out=out) is out and out.array.tolist() == [5, 5]


@pytest.mark.parametrize("operator", INPLACE)
def test_in_place_on_the_whole_handle_is_refused_with_advice(operator):
    a = ns.ones(3, int)
    told(outcome(lambda: getattr(a, f"__{operator}__")(1)), TypeError, "a.local", "a.array")
    assert a.array.tolist() == [1, 1, 1]


def test_the_statement_a_plus_1_is_refused_and_leaves_the_name():
    a = ns.zeros(3)

    def add():
        nonlocal a
        a += 1

    told(outcome(add), TypeError, "a.local")
    assert isinstance(a, ns.SharedArray) and not a.array.any()


def test_in_place_on_the_local_rows_makes_the_whole():
    a = ns.zeros((2 * world.size + 1, 3))
    a.local += 1
    a.sync()
    assert (a.array == 1).all()
    b = ns.zeros(())
    b.local += 1
    b.sync()
    assert float(b) == 1


def test_in_place_on_array_is_ndarray_s():
    a = own([1, 2])
    a.array += 1
    a.array *= 2
    assert a.array.tolist() == [4, 6]


@pytest.mark.parametrize("name", ["array", "local"])
def test_assigning_another_array_is_refused_with_what_to_write(name):
    a = own([1.0, 2.0, 3.0])
    view = a.array
    for other in (np.ones(3), a.array[::-1], a.array[:2], a.array.view("i8"), 5, None, a):
        told(outcome(lambda other=other: setattr(a, name, other)), AttributeError, f"a.{name}[...]")
    assert a.array is view and view.tolist() == [1, 2, 3]


def test_other_attributes_cannot_be_set():
    a = ns.zeros(3)
    for name in ("shape", "dtype", "order", "note"):
        told(outcome(lambda name=name: setattr(a, name, 3)), AttributeError, name)


@pytest.mark.parametrize("name", ["mean", "sum", "T", "flat", "astype", "reshape", "flags", "fill"])
def test_what_only_an_ndarray_has_is_hinted_at(name):
    told(outcome(lambda: getattr(ns.zeros(3), name)), AttributeError, f".array.{name}")


def test_what_nothing_has_is_not():
    error = outcome(lambda: ns.zeros(3).maen)
    assert told(error, AttributeError, "maen") and ".array" not in str(error)


# --- other protocols ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_buffer_protocol_is_zero_copy_in_either_order(order):
    a = own(content("i4", (3, 4), order=order))
    view = memoryview(a)
    assert (view.shape, view.strides, view.format, view.readonly) == ((3, 4), a.array.strides, "i", False)
    assert (view.c_contiguous, view.f_contiguous) == (order == "C", order == "F")
    np.asarray(view)[1, 2] = -7
    assert a[1, 2] == -7
    assert bytes(own([1, 2, 3], dtype="u1")) == b"\1\2\3"


def test_a_buffer_holds_the_memory():
    a = own([1, 2, 3])
    view = memoryview(a)
    a.close()
    del a
    assert view.tolist() == [1, 2, 3]
    closed = own([1])
    closed.close()
    assert isinstance(outcome(lambda: memoryview(closed)), BufferError)


def test_dlpack_is_zero_copy_and_holds_the_memory():
    a = own(np.arange(6.0).reshape(2, 3))
    other = np.from_dlpack(a)
    assert address(other) == address(a.array) and a.__dlpack_device__() == (1, 0)
    a.close()
    del a
    gc.collect()
    assert other.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_the_shallow_copy_is_the_handle_and_a_deep_copy_is_refused():
    a = ns.zeros(3)
    assert copy.copy(a) is a
    for deep in (a, [a], {"a": a}):
        told(outcome(lambda deep=deep: copy.deepcopy(deep)), ns.Error, ".copy()", "array()")


def test_the_text_is_local_and_shows_no_data():
    a = ns.full((8760, 16), 123.456)
    t = a.topology
    nodes = f"{t.nodes} node{'s' * (t.nodes > 1)}"
    assert repr(a) == str(a) == f"<SharedArray (8760, 16) float64 on {nodes}, 1.1 MB each, C order>"
    assert repr(ns.zeros(3, "i2", order="F")) == f"<SharedArray (3,) int16 on {nodes}, 6 bytes each, F order>"
    if world.rank == 0:
        repr(a)  # no other rank is needed
    a.close()
    assert "closed" in repr(a)


# --- whose rows -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("n", [0, 1, 2, 7, 100])
def test_the_parts_of_a_node_s_ranks_make_up_the_array(n, order):
    a = ns.zeros((n, 3), order=order)
    t = a.topology
    for node in range(t.nodes):
        ranks = t.ranks_on(node)
        assert [a.rows(rank) for rank in ranks] == [
            (number * n // len(ranks), (number + 1) * n // len(ranks)) for number in range(len(ranks))
        ]
    assert a.rows() == a.rows(t.rank)
    for rank in range(t.size):
        start, stop = a.rows(rank)
        assert a.part(rank).shape == (stop - start, 3) and np.shares_memory(a.part(rank), a.array) == (stop > start)
        assert stop == start or address(a.part(rank)) == address(a.array[start:])
    assert same(a.local, a.part(t.rank)) and a.local.strides == a.array.strides


def test_a_0_d_array_is_one_row_of_the_first_rank():
    a = ns.zeros(())
    t = a.topology
    first = [t.ranks_on(t.node_of(rank))[0] == rank for rank in range(t.size)]
    assert [a.rows(rank) for rank in range(t.size)] == [(0, 1) if is_first else (0, 0) for is_first in first]
    assert a.local.shape == (1,) if t.is_leader else (0,)


def test_no_such_rank_has_rows():
    a = ns.zeros(3)
    for rank in (-1, world.size):
        told(outcome(lambda rank=rank: a.rows(rank)), ns.InvalidArgument, rank)
        told(outcome(lambda rank=rank: a.part(rank)), ns.InvalidArgument, rank)


# --- finding the handle ---------------------------------------------------------------------------------------------

VIEWS = {
    "whole": lambda x: x,
    "slice": lambda x: x[2:5, 1:],
    "transposed": lambda x: x.T,
    "reversed": lambda x: x[::-1, ::-1],
    "element": lambda x: x[5:6, 3:4],
    "other type": lambda x: x.T.view("u1"),
    "reshaped": lambda x: x.reshape(-1, order="F")[7:],
    "memoryview": lambda x: memoryview(x),
    "broadcast": lambda x: np.broadcast_to(x[0], (3, 4)),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
def test_a_view_leads_back_to_the_whole_array(view):
    before, a, after = ns.zeros(512), ns.zeros((6, 4), order="F"), ns.zeros(512)
    found = ns.handle(view(a.array))
    assert (found.shape, found.dtype, found.order, found.topology) == (a.shape, a.dtype, a.order, a.topology)
    assert address(found.array) == address(a.array) not in (address(before.array), address(after.array))
    assert ns.is_shared(view(a.array)) and ns.is_shared(a)
    found.sync()  # is the same to the ranks, whichever handle they use


def test_an_empty_view_never_leads_to_another_array():
    arrays = [ns.zeros(mmap.PAGESIZE // 8) for _ in range(4)]
    for a in arrays:
        end = a.array[a.size :]
        error = outcome(lambda end=end: ns.handle(end))
        assert told(error, ns.InvalidArgument) if error else address(ns.handle(end).array) == address(a.array)


def test_a_handle_made_anew_works_after_the_first_is_gone():
    a = ns.zeros(world.size, int)
    view = a.array[1:]
    del a
    again = ns.handle(view)
    again.array[...] = world.size
    again.sync()
    again.bcast(root=world.size - 1)
    assert again.array.tolist() == [world.size] * world.size


@pytest.mark.parametrize("other", [np.zeros(3), np.zeros(0), [1, 2], b"abc", "text", 3, None, np.float64(2)], ids=repr)
def test_what_lies_elsewhere_is_not_shared(other):
    assert not ns.is_shared(other)
    told(outcome(lambda: ns.handle(other)), ns.InvalidArgument, type(other).__name__)


# --- letting go -----------------------------------------------------------------------------------------------------


def test_a_closed_handle_refuses_politely_and_views_stay_valid():
    a = ns.array(np.arange(4.0), writable=True)
    view, part = a.array, a.local
    for _ in range(3):
        a.close()
    calls = [a.sync, a.bcast, a.allgather, a.copy, a.mlock, a.thaw, a.freeze, a.msync, lambda: a.array, lambda: a.local]
    calls += [lambda: a[0], lambda: a.set(1), lambda: a + 1, lambda: len(a), lambda: iter(a), lambda: np.asarray(a)]
    calls += [lambda: a.writing().__enter__(), lambda: ns.together(a).__enter__(), lambda: a.__setitem__(0, 1)]
    calls += [lambda: bool(a), lambda: 1 in a, lambda: np.sum(a), lambda: a == 1, lambda: np.from_dlpack(a)]
    for call in calls:
        told(outcome(call), ns.Error, "closed")
    world.Barrier()
    assert view.tolist() == [0, 1, 2, 3] and part.shape[0] == a.rows()[1] - a.rows()[0]
    assert (a.shape, a.size, a.order) == ((4,), 4, "C")


def test_with_closes_also_when_it_raises():
    with ns.zeros(3) as a:
        view = a.array
    told(outcome(lambda: a.array), ns.Error, "closed")
    b = ns.zeros(3)
    try:
        with b:
            raise KeyError
    except KeyError:
        pass
    told(outcome(lambda: b.array), ns.Error, "closed")
    assert view.tolist() == [0, 0, 0]


def test_memory_goes_with_its_last_view():
    before = alive()
    a = ns.zeros(1000)
    part, gone = a.array[10:20], weakref.ref(a)
    del a
    assert gone() is None
    held = alive()
    part.fill(1)
    del part
    assert (held[0], alive()) == (before[0] + 1, before)


def test_ranks_let_go_in_any_order():
    before = alive()
    arrays = [ns.full(100, number) for number in range(6)]
    order = np.random.default_rng(world.rank).permutation(6)
    for number in order:
        arrays[number] = None
        _ = ns.memory()
    b = ns.ones(3)
    assert b.array.sum() == 3
    del b
    assert alive() == before


def test_an_array_in_a_reference_cycle_is_collected_on_one_rank_alone():
    before = alive()
    cycle = [ns.zeros(100)]
    cycle.append(cycle)
    del cycle
    if world.rank == 0:
        gc.collect()
    b = ns.ones(3)
    del b
    gc.collect()
    assert alive() == before


def test_the_system_s_calls_on_the_pages():
    a = own(np.zeros(3))
    error = outcome(a.mlock)
    if error is None:
        a.munlock()
    else:
        told(error, ns.Error, "ulimit -l")
    a.msync()
    assert a.array.tolist() == [0, 0, 0]
