# SPDX-License-Identifier: BSD-3-Clause
"""Making arrays: the right content, on every node, and the same as NumPy's."""

import array as python_array
import mmap

import numpy as np
import pytest
from mpi4py import MPI
from support import DTYPES, LAST, address, content, same, world

import nodeshare as ns

SHAPES = [(), (0,), (1,), (7,), (3, 0, 2), (4, 3), (5, 1, 3), (1003,)]
ROOTS = sorted({0, world.size // 2, LAST})


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_zeros_holds_zero_bytes_in_the_given_layout(dtype, order):
    a = ns.zeros((5, 3), dtype, order=order)
    assert same(a.array, np.zeros((5, 3), dtype, order))
    assert a.array.strides == np.zeros((5, 3), dtype, order).strides
    assert not any(a.array.tobytes(order))


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_every_shape_has_one_whole_copy_per_node(shape, order):
    t = ns.topology()
    a = ns.zeros(shape, "i4", order=order)
    if t.is_leader:
        a.array[...] = content("i4", shape, t.node)
    a.sync()
    assert same(a.array, content("i4", shape, t.node))
    assert a.array.flags.writeable and a.array.flags.aligned


@pytest.mark.parametrize("dtype", ["?", "u1", "e", "f8", "g", "F", "G", ">i4", ">f8", "S3", "U3", "m8[s]"])
def test_ones_is_numpy_s(dtype):
    assert same(ns.ones((3, 5), dtype).array, np.ones((3, 5), dtype))


@pytest.mark.parametrize(
    "fill, dtype",
    [(7, None), (2.5, "f4"), (True, None), (1 - 2j, None), ("abc", None), (b"abcd", "S2"), (3, ">u8"), (np.pi, "g")]
    + [
        (np.datetime64("2026-07-31T10", "h"), None),
        (np.timedelta64(3, "s"), "m8[ms]"),
        (np.float16(1.5), None),
        ("\udcff", None),
    ]
    + [([1, 2, 3], None), ([[1.5], [2.5], [3.5], [4.5], [5.5]], None), (np.arange(15).reshape(5, 3), "i2")]
    + [(np.array((1, 2), "i4,i4"), None)],
    ids=ascii,
)
@pytest.mark.parametrize("order", ["C", "F"])
def test_full_is_numpy_s(fill, dtype, order):
    a = ns.full((5, 3), fill, dtype, order=order)
    assert same(a.array, np.full((5, 3), fill, dtype))
    assert a.order == order


@pytest.mark.parametrize("order", ["C", "F"])
def test_a_subarray_type_adds_axes(order):
    a = ns.full((4, 2), 7, ("i2", (3,)), order=order)
    assert same(a.array, np.full((4, 2, 3), 7, "i2")) and a.shape == (4, 2, 3)


def test_creators_of_0_d_arrays():
    for a, expected in [(ns.zeros(()), 0.0), (ns.ones((), int), 1), (ns.full((), 2.5), 2.5), (ns.array(7), 7)]:
        assert a.array.shape == () and a.array[()] == expected


def test_memory_is_zeroed_again_after_a_used_array_is_gone():
    for _ in range(5):
        a = ns.zeros(100_003, "u1")
        clean = not a.array.any()
        a.sync()
        a.local[...] = 255
        a.sync()
        del a
        assert clean


def test_no_rank_s_filling_comes_after_the_call():
    for value in range(20):
        for a in (ns.full(4099, value), ns.zeros(4099), ns.ones(4099), ns.array([value] * 4099, writable=True)):
            a.array[a.topology.node_rank :: a.topology.node_size] = -1
            a.sync()
            assert (a.array == -1).all()


@pytest.mark.parametrize("shape", [1, 5000, (300, 301)], ids=str)
@pytest.mark.parametrize("create", [ns.zeros, ns.empty, ns.ones, lambda shape: ns.array(np.ones(shape))])
def test_arrays_begin_on_a_page(create, shape):
    a, b = create(shape), create(shape)
    assert address(a.array) % mmap.PAGESIZE == 0 and address(b.array) % mmap.PAGESIZE == 0


def test_many_arrays_are_all_their_own():
    arrays = [ns.zeros(3, int) for _ in range(300)]
    with ns.together(*arrays):
        for number, a in enumerate(arrays):
            a.local[...] = number
    assert [a.array.tolist() for a in arrays] == [[number] * 3 for number in range(300)]


def test_more_elements_than_an_int_counts():
    n = 2**31 + 5
    a = ns.zeros(n, bool, reserve=False)
    assert (a.size, a.nbytes, len(a.array)) == (n, n, n)
    a.set([True, False, True], index=slice(n - 3, n), root=LAST)  # bytes beyond 2^31, to every node
    a.set(True, index=0)
    ends = [a.array[:2].tolist(), a.array[2**31 - 2 :].tolist()]
    assert ends == [[True, False], [False] * 4 + [True, False, True]]
    assert ns.handle(a.array[-1:]).shape == (n,)


def test_rows_beyond_2_31_are_dealt_to_ranks():
    n = 2**31 + 5
    a = ns.empty(n, "?", reserve=False)
    t = a.topology
    assert a.rows() == (t.node_rank * n // t.node_size, (t.node_rank + 1) * n // t.node_size)
    assert address(a.local) - address(a.array) == a.rows()[0]


# --- like another ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("like", [ns.empty_like, ns.zeros_like, ns.ones_like, lambda p, **k: ns.full_like(p, 1, **k)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_likes_take_shape_dtype_and_order_from_either_kind_of_array(like, order):
    for prototype in (np.zeros((3, 4), ">i4", order), ns.zeros((3, 4), ">i4", order=order)):
        a = like(prototype)
        assert (a.shape, a.dtype, a.order) == ((3, 4), np.dtype(">i4"), order)
        b = like(prototype, shape=5, dtype="f4", order="C")
        assert (b.shape, b.dtype, b.order) == ((5,), np.dtype("f4"), "C")


def test_likes_fill():
    prototype = np.empty((2, 3), "f4")
    assert same(ns.zeros_like(prototype).array, np.zeros((2, 3), "f4"))
    assert same(ns.ones_like(prototype).array, np.ones((2, 3), "f4"))
    assert same(ns.full_like(prototype, 2.5).array, np.full((2, 3), 2.5, "f4"))
    assert same(ns.zeros_like([[1, 2], [3, 4]]).array, np.zeros((2, 2), int))


def test_likes_take_the_communicator_of_a_shared_array():
    prototype = ns.zeros(3, comm=MPI.COMM_SELF)
    assert ns.zeros_like(prototype).topology == prototype.topology
    assert ns.zeros_like(prototype, comm=MPI.COMM_WORLD).topology == ns.topology()


# --- one rank's array -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_array_is_the_root_s_on_every_node(dtype, order):
    for root in ROOTS:
        expected = content(dtype, (7, 3), root, order)
        a = ns.array(expected if world.rank == root else None, root=root)
        assert same(a.array, expected)
        assert a.order == order and a.array.strides == expected.strides


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_array_takes_every_shape(shape):
    expected = content("f4", shape, 3)
    a = ns.array(expected if world.rank == LAST else None, root=LAST)
    assert same(a.array, expected)


def test_array_of_several_transfers():
    expected = np.random.default_rng(5).integers(0, 255, (11 << 20) + 7, "u1")
    a = ns.array(expected if world.rank == LAST else None, root=LAST)
    assert np.array_equal(a.array, expected)


def test_array_is_read_only_unless_writable():
    assert not ns.array([1, 2]).array.flags.writeable
    assert ns.array([1, 2], writable=True).array.flags.writeable


def test_array_is_a_copy():
    mine = np.arange(5.0)
    a = ns.array(mine, root=LAST)
    mine[:] = -1
    world.Barrier()
    assert a.array.tolist() == [0, 1, 2, 3, 4]


def test_only_the_root_s_object_counts():
    a = ns.array(np.arange(3) if world.rank == LAST else "something else", root=LAST)
    assert a.array.tolist() == [0, 1, 2]


def views():
    base = content("i4", (6, 8), 2)
    return {
        "slice": base[1:5, ::3],
        "reversed": base[::-1, ::-1],
        "transposed": base[:, 2:5].T,
        "broadcast": np.broadcast_to(base[0], (3, 8)),
        "field": content([("a", "f8"), ("b", "i1")], 5)["a"],
        "read-only": np.frombuffer(b"12345678", "i4"),
    }


@pytest.mark.parametrize("which", views())
def test_array_takes_every_view(which):
    a = ns.array(views()[which], root=LAST)
    assert same(a.array, np.array(views()[which]))


@pytest.mark.parametrize(
    "value",
    [3, 2.5, True, 1j, "text", b"bytes", [1, 2.5], [[1], [2]], (), [], [[]], range(4), ["a", "bcd"], [b"x", b"yz"]]
    + [np.float32(3), np.datetime64("2026-07-31"), [np.timedelta64(3, "h")], python_array.array("h", [1, 2])]
    + [bytearray(b"abc"), memoryview(b"abc"), [np.arange(3), np.arange(3)], [True, False], [1 << 40], [-1, 2**63 - 1]],
    ids=repr,
)
def test_array_takes_what_numpy_takes(value):
    assert same(ns.array(value).array, np.asarray(value))


@pytest.mark.parametrize("dtype", ["f4", ">i2", "U8", "S8", "g", "c8", bool, "M8[D]"], ids=str)
def test_array_converts_into_place(dtype):
    for value in ([[1, 2], [3, 4]], np.array([[1, 2], [3, 4]]), np.array([["5", "6"], ["7", "8"]])):
        try:
            expected = np.asarray(value).astype(dtype)
        except (TypeError, ValueError):
            continue
        a = ns.array(value if world.rank == LAST else None, dtype, root=LAST)
        assert same(a.array, expected)


def test_array_takes_a_memmap_a_record_array_and_a_shared_array(tmp_path):
    np.save(tmp_path / "x.npy", content("f8", (5, 3)))
    for value in (
        np.load(tmp_path / "x.npy", mmap_mode="r"),
        content([("a", "i4"), ("b", "S3")], 4).view(np.recarray),
        ns.full((4, 2), 7, "i2", comm=MPI.COMM_SELF),
    ):
        a = ns.array(value)
        assert type(a.array) is np.ndarray
        assert same(a.array, np.array(np.asarray(value)))


def test_a_communicator_of_its_own():
    comm = MPI.COMM_WORLD.Split(world.rank % 2, world.rank)
    a = ns.array([world.rank % 2] * 3 if comm.rank == comm.size - 1 else None, root=comm.size - 1, comm=comm)
    b = ns.full(3, world.rank, comm=MPI.COMM_SELF)
    comm.Free()
    assert a.array.tolist() == [world.rank % 2] * 3
    assert b.array.tolist() == [world.rank] * 3
