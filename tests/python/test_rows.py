# SPDX-License-Identifier: BSD-3-Clause
"""set, bcast and allgather: the right bytes from the right node, on every node, and nothing else touched."""

import numpy as np
import pytest
from mpi4py import MPI
from support import DTYPES, INDICES, LAST, by_node, content, outcome, same, told, world

import nodeshare as ns
from nodeshare.layout import make_layout
from nodeshare.rows import byte_runs, describe_numbers, offsets_of_index, owner_runs, runs_of_index, whole_run

ROOTS = sorted({0, world.size // 2, LAST})
LARGE = (9 << 20) + 5  # bytes: several transfers


def bytes_of(runs, nbytes):
    """Return how often each byte is in runs."""
    counts = np.zeros(nbytes, int)
    for offset, length, _, stride, count in runs:
        for number in range(count):
            begin = offset + number * stride
            assert 0 <= begin and begin + length <= nbytes
            counts[begin : begin + length] += 1
    return counts


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES.keys())
def test_runs_of_an_index_are_the_bytes_that_numpy_writes(index, order):
    a = np.zeros((7, 5), "u4", order)
    counts = bytes_of(runs_of_index(a, index, 0), a.nbytes)
    a[index] = 0xFFFFFFFF
    assert np.array_equal(counts, a.reshape(-1, order=order).view("u1") == 255)


@pytest.mark.parametrize("order", ["C", "F"])
def test_runs_of_random_indices_are_the_bytes_that_numpy_writes(order):
    random = np.random.default_rng(7)
    for _ in range(300):
        shape = tuple(random.integers(1, 6, random.integers(1, 5)))
        a = np.zeros(shape, "u2", order)
        index = tuple(
            slice(*sorted(random.integers(-n, n + 1, 2)), [1, 1, 2, 3][random.integers(4)])
            if random.random() < 0.7
            else int(random.integers(n))
            for n in shape[: random.integers(1, len(shape) + 1)]
        )
        counts = bytes_of(runs_of_index(a, index, 0), a.nbytes)
        a[index] = 0xFFFF
        assert np.array_equal(counts, a.reshape(-1, order=order).view("u1") == 255), (shape, index)


@pytest.mark.parametrize(
    "shape, order, index, most",
    [
        ((1000, 4), "C", np.s_[:, ::2], 2),
        ((4, 1000), "F", np.s_[::2], 2),
        ((4, 1000), "C", np.s_[::2, ::2], 2),
        ((1000, 4, 6), "C", np.s_[::-2, ::2, :2], 2),
        ((5, 1000, 4), "C", np.s_[:3, :, 1:3], 3),
        ((1000, 4), "C", np.s_[::2], 1),
    ],
    ids=str,
)
def test_runs_are_few_however_long_the_longest_axis_is(shape, order, index, most):
    a = np.zeros(shape, "u1", order)
    runs = runs_of_index(a, index, 0)
    assert len(runs) == most
    counts = bytes_of(runs, a.nbytes)
    a[index] = 1
    assert np.array_equal(counts, a.reshape(-1, order=order))


def random_item(random, extent, shape):
    """Return an index of one axis, or of none."""
    items = [
        lambda: slice(*sorted(random.integers(-extent, extent + 1, 2)), [1, 2][random.integers(2)]),
        lambda: int(random.integers(-extent, extent)),
        lambda: random.integers(-extent, extent, shape),
        lambda: random.integers(-extent, extent, shape[-1:]).tolist(),
        lambda: random.integers(0, 2, extent).astype(bool),
    ]
    return items[random.integers(len(items))]()


@pytest.mark.parametrize("order", ["C", "F"])
def test_offsets_of_random_fancy_indices_are_those_of_what_numpy_takes(order):
    random = np.random.default_rng(9)
    taken = 0
    for _ in range(1000):
        shape = tuple(map(int, random.integers(1, 5, random.integers(1, 5))))
        a = np.zeros(shape, "u4", order)
        a.reshape(-1, order=order)[...] = np.arange(a.size) * 4  # each element is its offset
        chosen = tuple(map(int, random.integers(1, 4, random.integers(1, 3))))
        index = [random_item(random, extent, chosen) for extent in shape[: random.integers(1, len(shape) + 1)]]
        for extra in (None, ..., True):
            if random.random() < 0.3:
                index.insert(random.integers(len(index) + 1), extra)
        try:
            expected = a[tuple(index)]
        except IndexError:  # shapes that NumPy does not broadcast
            continue
        taken += 1
        assert np.array_equal(offsets_of_index(a, tuple(index)), expected), (shape, index)
    assert taken > 300


@pytest.mark.parametrize("index", ["b", "c", ["a", "c"], ["d"]], ids=str)
def test_runs_of_fields_are_the_bytes_of_the_fields(index):
    a = np.zeros(5, [("a", "u1"), ("b", "u4"), ("c", "u1", (3,)), ("d", "u2")])
    counts = bytes_of(runs_of_index(a, index, 0), a.nbytes)
    expected = np.zeros((5, a.dtype.itemsize), bool)
    for name in [index] if isinstance(index, str) else index:
        kind, offset = a.dtype.fields[name][:2]
        expected[:, offset : offset + kind.itemsize] = True
    assert np.array_equal(counts, expected.reshape(-1))


def test_bytes_are_dealt_whole_to_the_ranks_and_come_from_their_nodes():
    t = ns.topology()
    for nbytes in (0, 1, 2, 7, 1000003):
        runs = byte_runs(nbytes, t)
        assert bytes_of(runs, nbytes).all() and runs[:, 1].sum() == nbytes
        assert runs[:, 2].tolist() == [t.node_of(rank) for rank in range(t.size)]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(0,), (1,), (7,), (7, 3), (3, 0), (4, 2, 3)], ids=str)
def test_runs_of_owners_are_each_byte_once(shape, order):
    layout = make_layout(shape, "f4", order, ns.topology())
    random = np.random.default_rng(3)
    for owner in (None, random.integers(0, world.size, shape[0]), [LAST] * shape[0]):
        assert (bytes_of(owner_runs(layout, owner), layout.nbytes) == 1).all()
    assert (bytes_of(whole_run(layout, 0), layout.nbytes) == 1).all()


def test_the_text_of_runs_differs_where_they_differ():
    layout = make_layout(100, "f4", "C", ns.topology())
    runs = whole_run(layout, 0)
    assert describe_numbers(runs) == describe_numbers(whole_run(layout, 0)) != describe_numbers(whole_run(layout, 1))


# --- bcast ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_bcast_gives_every_node_the_bytes_of_the_root_s(dtype, order):
    a = ns.zeros((7, 3), dtype, order=order)
    for root in ROOTS:
        by_node(a, root)
        a.bcast(root)
        assert same(a.array, content(dtype, (7, 3), root + a.topology.node_of(root)))
        a.sync()


@pytest.mark.parametrize("shape", [(), (0,), (1,), (2, 0), (LARGE,)], ids=str)
def test_bcast_of_every_size(shape):
    a = ns.zeros(shape, "u1")
    by_node(a)
    a.bcast(LAST)
    assert same(a.array, content("u1", shape, a.topology.node_of(LAST)))


def test_bcast_takes_a_numpy_integer():
    a = ns.zeros(3)
    by_node(a)
    a.bcast(np.int8(LAST))
    assert same(a.array, content(float, 3, a.topology.node_of(LAST)))


def test_bcast_works_on_inputs_and_on_sub_communicators():
    comm = MPI.COMM_WORLD.Split(world.rank % 2, -world.rank)
    a = ns.array(np.full(5, world.rank % 2), comm=comm)
    a.bcast(comm.size - 1)
    assert a.array.tolist() == [world.rank % 2] * 5
    comm.Free()


# --- set ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES.keys())
def test_set_writes_what_numpy_would_on_every_node_and_no_more(index, order):
    a = ns.zeros((7, 5), "i4", order=order)
    for root in ROOTS:
        by_node(a)
        expected = content("i4", (7, 5), a.topology.node)
        value = content("i4", expected[index].shape, 50 + root)
        if isinstance(index, list):
            value[:] = value[0]  # one of its rows is given twice
        expected[index] = value
        a.set(value if world.rank == root else None, index, root)
        assert same(a.array, expected)
        a.sync()


@pytest.mark.parametrize("dtype", DTYPES)
def test_set_of_a_row_for_every_dtype(dtype):
    a = ns.zeros((4, 3), dtype)
    expected = content(dtype, (4, 3), 1)
    by_node(a, 1)
    a.bcast()
    expected[2] = content(dtype, 3, 9)
    a.set(expected[2] if world.rank == LAST else None, 2, LAST)
    assert same(a.array, expected)


def test_set_everywhere_is_the_default():
    a = ns.zeros((3, 2))
    a.set(7, root=LAST)
    b = ns.zeros(())
    b.set(2.5)
    assert a.array.tolist() == [[7, 7]] * 3 and float(b) == 2.5


@pytest.mark.parametrize("name", ["b", ["a", "b"]], ids=str)
def test_set_of_fields(name):
    kind = [("a", "i2"), ("b", "f8"), ("c", "S3")]
    a = ns.zeros(5, kind)
    by_node(a)
    expected = content(kind, 5, a.topology.node)
    expected[name] = content(kind, 5, 77)[name]
    a.set(content(kind, 5, 77)[name] if world.rank == 0 else None, name)
    assert same(a.array, expected)


def test_set_of_a_large_slice():
    a = ns.zeros(LARGE, "u1")
    value = content("u1", LARGE - 10, 3)
    a.set(value if world.rank == LAST else None, slice(7, LARGE - 3), LAST)
    assert same(a.array[7 : LARGE - 3], value)
    assert not a.array[:7].any() and not a.array[LARGE - 3 :].any()


# --- allgather ------------------------------------------------------------------------------------------------------


def gather(a, owner, *, rows, order="C"):
    """Return what allgather should make: each rank writes the rows that are its own, over other bytes on each node."""
    by_node(a, 100)
    expected = content(a.dtype, a.shape, 7)
    for row in rows:
        if a.shape:
            a.array[row] = expected[row]
        else:
            a.array[...] = expected
    a.sync()
    a.allgather(owner)
    return expected


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_allgather_takes_rows_from_their_local_range(dtype, order):
    a = ns.zeros((11, 3), dtype, order=order)
    expected = gather(a, None, rows=range(*ns.local_range(11)))
    assert same(a.array, expected)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(0,), (1,), (2,), (7,), (4, 0), (5, 2, 3), (1, 1000), (1_500_001, 3)], ids=str)
def test_allgather_of_every_shape(shape, order):
    a = ns.zeros(shape, "u2", order=order)
    start, stop = ns.local_range(shape[0])
    by_node(a, 100)
    expected = content("u2", shape, 7)
    a.array[start:stop] = expected[start:stop]
    a.allgather()
    assert same(a.array, expected)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("kind", [list, np.int8, np.uint64, tuple])
def test_allgather_takes_each_row_from_its_owner(order, kind):
    random = np.random.default_rng(11)
    for _ in range(3):
        owner = random.integers(0, world.size, 23)
        given = kind(owner.tolist()) if kind in (list, tuple) else owner.astype(kind)
        a = ns.zeros((23, 2), order=order)
        expected = gather(a, given, rows=np.flatnonzero(owner == world.rank))
        assert same(a.array, expected)
        a.sync()


def test_allgather_of_many_rows_in_turn():
    n = 20_011
    owner = np.arange(n) % world.size
    for order in "CF":
        a = ns.zeros((n, 3), "i4", order=order)
        by_node(a, 100)
        expected = content("i4", (n, 3), 7)
        a.array[world.rank :: world.size] = expected[world.rank :: world.size]
        a.allgather(owner)
        assert same(a.array, expected)


def test_allgather_from_one_rank_is_its_whole_node_s_copy():
    a = ns.zeros(9)
    by_node(a)
    a.allgather([LAST] * 9)
    assert same(a.array, content(float, 9, a.topology.node_of(LAST)))


def test_allgather_of_a_0_d_array():
    a = ns.zeros(())
    by_node(a)
    a.allgather([LAST])
    assert same(a.array, content(float, (), a.topology.node_of(LAST)))


def test_allgather_again_and_again_adds_nothing():
    a = ns.zeros(2 * world.size + 1, int)
    start, stop = ns.local_range(a.size)
    for _ in range(4):
        a.array[start:stop] += 1
        a.allgather()
        a.allgather()
    assert a.array.tolist() == [4] * a.size


@pytest.mark.parametrize(
    "owner",
    [[0] * 4, [0] * 6, [0.0] * 5, ["0"] * 5, [[0]] * 5, [0, 0, -1, 0, 0], [0, 0, world.size, 0, 0], 0, "ab", object()],
    ids=repr,
)
def test_owners_that_do_not_fit_are_refused(owner):
    a = ns.zeros(5)
    told(outcome(lambda: a.allgather(owner)), ns.InvalidArgument, "owner")
    a.allgather()


# --- rows that ranks bring ------------------------------------------------------------------------------------------

COUNTS = {
    "more and more": lambda rank: 2 * rank + 1,
    "the last alone": lambda rank: 5 * (rank == LAST),
    "none": lambda rank: 0,
}


def edges_of(count):
    """Return where the rows of each rank begin, and the last one's end."""
    return [sum(map(count, range(rank))) for rank in range(world.size + 1)]


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("count", COUNTS.values(), ids=COUNTS.keys())
def test_ranks_bring_rows_that_are_theirs(count, order):
    edges = edges_of(count)
    a = ns.empty((None, 3), "i4", order=order, rows=count(world.rank))
    assert a.shape == (edges[-1], 3) and a.rows() == (edges[world.rank], edges[world.rank + 1])
    assert [a.rows(rank) for rank in range(world.size)] == [*zip(edges, edges[1:])]
    expected = content("i4", a.shape, 4)
    by_node(a, 100)
    a.local[...] = expected[slice(*a.rows())]
    a.allgather()
    assert same(a.array, expected) and a.order == order
    assert all(same(a.part(rank), expected[slice(*a.rows(rank))]) for rank in range(world.size))
    assert ns.handle(a.array[:1]).rows() == a.rows()


@pytest.mark.parametrize("count", COUNTS.values(), ids=COUNTS.keys())
def test_creators_fill_the_whole_array_on_every_node_whoever_brings_rows(count):
    n = edges_of(count)[-1]
    for made, value in (
        (ns.zeros((None, 2), rows=count(world.rank)), 0),
        (ns.ones(None, rows=count(world.rank)), 1),
        (ns.full([None, 2], [3, 4], rows=np.int16(count(world.rank))), [3, 4]),
    ):
        made.sync()
        assert same(made.array, np.full((n, *made.shape[1:]), value, made.dtype))


def test_owners_and_work_count_as_before_where_ranks_brought_rows():
    a = ns.zeros((None, 2), "i4", rows=world.rank + 1)
    n = a.shape[0]
    by_node(a)
    a.allgather([LAST] * n)
    assert same(a.array, content("i4", (n, 2), a.topology.node_of(LAST)))
    a.sync()
    rows = ns.work(n)
    for row in rows:
        a[row] = row
    a.allgather(rows)
    assert a.array[:, 1].tolist() == [*range(n)]


def test_an_array_like_one_with_rows_is_dealt_as_usual():
    a = ns.zeros((None, 2), rows=3 * (world.rank == 0))
    assert ns.zeros_like(a).rows() == ns.zeros((3, 2)).rows()


@pytest.mark.parametrize("rows", [-1, 2.0, "3", 2**63], ids=repr)
def test_counts_of_rows_that_can_not_be_are_refused(rows):
    told(outcome(lambda: ns.zeros((None, 2), rows=rows)), ns.InvalidArgument, "rows is", repr(rows))
    error = outcome(lambda: ns.zeros((None, 2), rows=rows if world.rank == LAST else 1))
    assert isinstance(error, ns.InvalidArgument if world.rank == LAST else ns.PeerError)


@pytest.mark.parametrize("shape", [(3, 2), 3, (), (2, None)], ids=repr)
def test_with_rows_the_first_extent_is_none(shape):
    told(outcome(lambda: ns.zeros(shape, rows=3)), ns.InvalidArgument, "shape is", "(None, 3)")


def test_none_without_rows_is_refused():
    told(outcome(lambda: ns.zeros((None, 2))), ns.InvalidArgument, "rows=")


@pytest.mark.ranks(2, 3, 5)
def test_ranks_that_do_not_bring_rows_of_the_same_array_are_a_mismatch():
    last = world.rank == LAST
    told(outcome(lambda: ns.zeros((None, 3 if last else 2), rows=1)), ns.Mismatch, "(None, 3)", "(None, 2)")
    told(outcome(lambda: ns.zeros((None, 2), "f4" if last else "f8", rows=1)), ns.Mismatch, "<f4", "<f8")
    told(outcome(lambda: ns.zeros((5, 2)) if last else ns.zeros((None, 2), rows=1)), ns.Mismatch, "(5, 2)", "rows=")


def test_no_such_rank_brought_rows():
    a = ns.zeros((None, 2), rows=1)
    for rank in (-1, world.size):
        told(outcome(lambda rank=rank: a.rows(rank)), ns.InvalidArgument, f"there is no rank {rank}")
