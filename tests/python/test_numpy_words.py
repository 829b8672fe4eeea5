# SPDX-License-Identifier: BSD-3-Clause
"""A handle in NumPy's hands: conversions, items, operators, functions, buffers."""

import copy
import gc

import numpy as np
import pytest
from support import DTYPES, address, content, outcome, own, same, told, world

import nodeshare as ns

INPLACE = "iadd isub imul imatmul itruediv ifloordiv imod ipow ilshift irshift iand ixor ior".split()


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
    assert f"{a:.2f} {i:>3} {a}" == f"2.50   3 {a!r}"
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


def test_dlpack_of_an_input_is_read_only_or_refused():
    a = ns.array([1.0, 2.0])
    try:
        other = np.from_dlpack(a)
    except BufferError:  # NumPy before 2.1 exports no read-only array
        return
    assert not other.flags.writeable and address(other) == address(a.array)


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
