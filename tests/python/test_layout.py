# SPDX-License-Identifier: BSD-3-Clause
"""Shape, element type and order: what is accepted, and in what form."""

import numpy as np
import pytest
from support import DTYPES, RECORDS, fields, outcome, told

import nodeshare as ns
from nodeshare.layout import as_dtype, describe_dtype, make_layout

SHAPES = [(), (0,), (1,), (7,), (3, 0, 2), (4, 3), (2, 3, 5), (1, 1, 1, 1), (5, 1, 3)]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_strides_and_bytes_are_numpy_s(shape, order):
    layout = make_layout(shape, "f4", order, None)
    numpy_s = np.empty(shape, "f4", order)
    assert (layout.shape, layout.size, layout.nbytes) == (numpy_s.shape, numpy_s.size, numpy_s.nbytes)
    if numpy_s.size:
        assert layout.strides == numpy_s.strides


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rows_lie_where_the_row_layout_says(shape, order):
    a = np.zeros(shape, "u2", order)
    rows, nbytes, columns = make_layout(shape, "u2", order, None).row_layout
    assert rows == (shape[0] if shape else 1)
    flat = a.reshape(-1, order=order).view("u1") if a.size else np.zeros(0, "u1")
    for row in range(rows):
        flat[:] = 0
        for column in range(columns):
            begin = column * rows * nbytes + row * nbytes
            flat[begin : begin + nbytes] = 255
        expected = np.zeros(shape, "u2")
        if a.size:
            expected[row if shape else ()] = 65535
        assert np.array_equal(flat.view("u2").reshape(shape, order=order), expected)


@pytest.mark.parametrize("shape", [5, np.int64(5), [5], (np.uint8(5),), np.array([5]), range(5, 6), (n for n in [5])])
def test_a_shape_may_be_an_int_or_any_sequence_of_ints(shape):
    assert make_layout(shape, float, "C", None).shape == (5,)


@pytest.mark.parametrize(
    "shape", [None, 2.0, (2.0,), "3", ("3",), (2, None), 1j, ((2, 3),), np.array([2.0]), {"n": 3}, object()], ids=repr
)
def test_a_shape_of_something_else_is_refused(shape):
    told(outcome(lambda: make_layout(shape, float, "C", None)), ns.InvalidArgument, "shape")


@pytest.mark.parametrize("shape", [-1, (3, -2), (-1, -1), (0, -1), np.int8(-3)], ids=str)
def test_a_negative_extent_is_refused(shape):
    told(outcome(lambda: make_layout(shape, float, "C", None)), ns.InvalidArgument, "shape", "negative")


@pytest.mark.parametrize("shape", [2**62, 2**64, (2**32, 2**32), (2**31, 2**31, 2**31), 10**30, (2**62, 1)], ids=str)
def test_what_no_address_space_holds_is_refused(shape):
    told(outcome(lambda: make_layout(shape, float, "C", None)), ns.InvalidArgument, "address space")


@pytest.mark.parametrize("shape", [(2**40, 0), (0, 2**40), (2**62, 2**62, 0), (2**64, 0)], ids=str)
def test_an_empty_array_of_huge_extents_is_no_silent_nonsense(shape):
    try:
        expected = np.empty(shape).shape
    except ValueError:  # NumPy refuses it, so a view of it cannot be made
        told(outcome(lambda: ns.zeros(shape)), ns.InvalidArgument, "shape")
    else:
        assert ns.zeros(shape).array.shape == expected


@pytest.mark.parametrize("order", ["A", "K", "c", "f", "", None, 1, "CF"], ids=repr)
def test_another_order_is_refused(order):
    told(outcome(lambda: make_layout(3, float, order, None)), ns.InvalidArgument, "order", repr(order), "'C'", "'F'")


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes_stay_what_they_are(dtype):
    assert fields(make_layout(3, dtype, "C", None).dtype) == fields(dtype)


@pytest.mark.parametrize(
    "given, expected",
    [("S", "S1"), ("U", "U1"), (str, "U1"), (bytes, "S1"), (int, "i8"), (float, "f8"), (complex, "c16"), (bool, "?")]
    + [("datetime64", "M8"), ("=f4", "f4"), (np.float32, "f4"), (">u1", "u1"), ("<M8[s]", "M8[s]"), (None, "f8")],
    ids=str,
)
def test_other_names_of_types_mean_what_they_mean_to_numpy(given, expected):
    assert as_dtype(given) == (np.dtype(expected), ())
    assert as_dtype(given)[0] == np.empty(1, given).dtype


def test_a_subarray_type_adds_axes_at_the_end():
    layout = make_layout((4, 2), (np.dtype("f4"), (3, 5)), "C", None)
    assert (layout.shape, layout.dtype) == ((4, 2, 3, 5), np.dtype("f4"))


OBJECTS = [object, "O", np.dtype([("a", "O")]), np.dtype([("a", [("b", "f8"), ("c", "O")])]), np.dtype(("O", (3,)))]
OBJECTS += [np.dtypes.StringDType()] if hasattr(np, "dtypes") and hasattr(np.dtypes, "StringDType") else []


@pytest.mark.parametrize("dtype", OBJECTS, ids=str)
def test_python_objects_are_refused_at_any_depth(dtype):
    told(outcome(lambda: as_dtype(dtype)), ns.InvalidArgument, "objects")


@pytest.mark.parametrize("dtype", ["flaot", "f17", 3, "M8[fortnights]", [("a",)], object(), ("f4", -1)], ids=str)
def test_what_numpy_does_not_know_is_refused(dtype):
    told(outcome(lambda: as_dtype(dtype)), ns.InvalidArgument, "dtype")


def test_the_text_of_a_dtype_is_the_same_only_for_equal_types():
    texts = [describe_dtype(parameter.values[0]) for parameter in DTYPES]
    padded = RECORDS["padded"]
    for change in ({"itemsize": 40}, {"offsets": [4, 16]}, {"names": ["a", "c"]}, {"formats": ["i1", ">f8"]}):
        texts.append(describe_dtype(np.dtype({**padded, **change})))
    texts += [describe_dtype(np.dtype(kind)) for kind in ("M8", "M8[s]", "m8[s]", "U6", "S6", "V7")]
    texts += [describe_dtype(np.dtype([("a", "f4", shape)])) for shape in [(2,), (3,), (1, 2), (2, 1)]]
    assert len(set(texts)) == len(texts)
    assert describe_dtype(np.dtype(float)) == describe_dtype(np.dtype("<f8" if np.little_endian else ">f8"))
