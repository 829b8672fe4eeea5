# SPDX-License-Identifier: BSD-3-Clause
"""Objects of one rank on all ranks: equal, their arrays once per node and read-only; and what cannot be sent."""

import gc
import pickle
import weakref
from dataclasses import dataclass, field

import numpy as np
import pytest
from mpi4py import MPI
from support import DTYPES, LAST, address, content, leaves_nothing, one_failed, outcome, same, told, world  # noqa: F401

import nodeshare as ns

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def shared(make, root=0, **options):
    """Collective. Share what root alone makes."""
    return ns.share(make() if world.rank == root else None, root=root, **options)


def once(array):
    """Whether an array lies in shared memory, aligned and read-only, and each rank of the node sees the same pages."""
    assert ns.is_shared(array) and not array.flags.writeable and address(array) % 64 == 0
    memory = ns.handle(array)._memory
    t = ns.topology(memory.layout.topology)
    mine = t.node, memory.id, address(array) - memory.address
    return all(place == mine for place in t.comm.allgather(mine) if place[0] == t.node)


@pytest.mark.parametrize("dtype", DTYPES)
def test_an_array_of_every_type_is_shared(dtype):
    expected = [content(dtype, (7, 3), order=order) for order in "CF"]
    for got, wanted in zip(shared(lambda: expected, root=LAST), expected):
        assert same(got, wanted) and got.strides == wanted.strides and once(got)


@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), (), (1,), ((5 << 20) + 3,)], ids=str)
def test_every_size_is_shared(shape):
    assert same(shared(lambda: content("u1", shape)), content("u1", shape))


def test_arrays_anywhere_in_nested_containers_are_shared():
    def make():
        table = content("f8", (100, 3))
        return {"a": [table, (content("i2", 5), {"b": content(">c16", 4)})], "same": table, "n": 3, "s": "text"}

    got, expected = shared(make), make()
    assert same(got["a"][0], expected["a"][0]) and once(got["a"][0])
    assert same(got["a"][1][0], expected["a"][1][0]) and once(got["a"][1][0])
    assert same(got["a"][1][1]["b"], expected["a"][1][1]["b"]) and once(got["a"][1][1]["b"])
    assert got["same"] is got["a"][0] and (got["n"], got["s"]) == (3, "text")


@pytest.mark.parametrize("cut", [np.s_[:, ::2], np.s_[::-1], np.s_[1:5, 2], np.s_[:, :, None, 1:2]], ids=str)
def test_views_with_gaps_are_shared_too(cut):
    got = shared(lambda: content("f8", (7, 5, 3))[cut])
    assert same(got, content("f8", (7, 5, 3))[cut]) and once(got)


def test_subclasses_keep_what_they_are(folder):
    def mapped():
        out = np.memmap(folder / "x", "f8", "w+", shape=(3, 4))
        out[...] = 5
        return out

    masked = shared(lambda: np.ma.masked_greater(content("f8", 9), 3, copy=False))
    assert once(masked.data) and once(masked.mask) and (masked == np.ma.masked_greater(content("f8", 9), 3)).all()
    bare = shared(lambda: np.ma.array([1.0, 2.0], fill_value=7, hard_mask=True))
    assert bare.mask is np.ma.nomask and bare.fill_value == 7 and bare.hardmask
    record = shared(lambda: np.rec.array([(1, 2.0)], dtype=[("a", "i4"), ("b", "f8")]))
    assert type(record) is np.recarray and record.b[0] == 2 and once(record)
    plain = shared(mapped)
    assert type(plain) is np.ndarray and (plain == 5).all() and once(plain)


@dataclass
class Table:
    """As users write them."""

    values: np.ndarray
    names: list = field(default_factory=list)


def test_instances_and_buffers_of_other_kinds_are_shared():
    got = shared(lambda: Table(content("f4", (9, 2)), ["x", "y"]))
    assert isinstance(got, Table) and same(got.values, content("f4", (9, 2))) and once(got.values)
    assert got.names == ["x", "y"]
    buffer = shared(lambda: pickle.PickleBuffer(bytearray(b"some bytes")))
    assert bytes(buffer) == b"some bytes" and once(np.asarray(buffer))


def test_data_frames_are_shared():
    pandas = pytest.importorskip("pandas")

    def make():
        when = pandas.date_range("2020-02-28", periods=4, freq="h", tz="UTC")
        return pandas.DataFrame({"x": np.arange(4.0), "y": np.arange(4.0), "s": list("abcd"), "n": range(4)}, when)

    got = shared(make)
    pandas.testing.assert_frame_equal(got, make())
    assert once(got["x"].to_numpy()) and once(got["n"].to_numpy())
    assert got.groupby("s").x.sum().tolist() == [0, 1, 2, 3] and got.sort_values("x", ascending=False).n.iloc[0] == 3
    pandas.testing.assert_frame_equal(shared(lambda: make().iloc[::2]), make().iloc[::2])


@pytest.mark.parametrize("kind", ["csr", "csc", "bsr", "coo", "dia", "lil", "dok"])
def test_sparse_matrices_are_shared_and_can_be_computed_with(kind):
    sparse = pytest.importorskip("scipy.sparse")

    def make():
        return sparse.random(30, 20, 0.2, random_state=1).asformat(kind)

    got, expected = shared(make), make()
    assert got.format == kind and (got.toarray() == expected.toarray()).all()
    assert ((got + got).toarray() == 2 * expected.toarray()).all()
    assert ((got @ np.ones(20)) == (expected @ np.ones(20))).all()
    assert (got.T.tocsr().toarray() == expected.T.toarray()).all()
    for name in ("data", "indices", "indptr"):
        if isinstance(getattr(got, name, None), np.ndarray) and kind in ("csr", "csc", "bsr"):
            assert once(getattr(got, name))


def test_a_sparse_matrix_that_is_not_sorted_is_sorted_on_the_way_and_stays_as_it_is_on_the_root():
    sparse = pytest.importorskip("scipy.sparse")
    mine = sparse.csr_matrix((np.array([1.0, 2.0, 4.0]), np.array([2, 0, 2]), np.array([0, 3])), shape=(1, 3))
    got = ns.share(mine)
    assert mine.indices.tolist() == [2, 0, 2] and mine.nnz == 3
    assert got.indices.tolist() == [0, 2] and got.data.tolist() == [2, 5] and once(got.indices)
    got.sort_indices()
    got.sum_duplicates()
    assert got[0, 2] == 5 and got.max() == 5


def test_shared_arrays_within_arrive_as_what_each_rank_has():
    a = ns.zeros(10)
    with ns.arena(1 << 12) as arena:
        b = arena.zeros(3)
        got = shared(lambda: {"a": a, "b": [b, a]})
        got["a"].local += 1
        got["a"].sync()
        assert (a.array == 1).all() and got["a"].topology == a.topology
        assert address(got["b"][0].array) == address(b.array) and address(got["b"][1].array) == address(a.array)


@pytest.mark.parametrize("root", [0, LAST])
def test_any_rank_may_be_the_root_and_the_others_objects_do_not_count(root):
    got = ns.share(np.full(5, world.rank), root=root)
    assert (got == root).all() and once(got)
    told(outcome(lambda: ns.share(None, root=world.size)), ns.InvalidArgument, world.size)


def test_a_communicator_of_its_own():
    comm = MPI.COMM_WORLD.Split(world.rank % 2, world.rank)
    got = ns.share(np.full(3, world.rank % 2), comm=comm)
    alone = ns.share(np.full(3, world.rank), comm=MPI.COMM_SELF)
    assert (got == world.rank % 2).all() and (alone == world.rank).all()
    comm.Free()


def test_the_memory_stays_as_long_as_any_array_of_it():
    got = shared(lambda: [content("f8", 1000), content("f8", 2000)])
    kept = got[1][5:]
    gone = weakref.ref(got[0])
    number = ns.handle(kept)._memory.id
    del got
    gc.collect()
    assert gone() is None and same(kept, content("f8", 2000)[5:])
    assert number in [segment.id for segment in ns._core.segments()]
    del kept
    gc.collect()
    assert number not in [segment.id for segment in ns._core.segments()]


def test_the_object_of_the_root_is_not_changed_and_not_shared():
    mine = {"x": content("f8", 10), "gap": content("f8", (4, 4))[:, 1]}
    before = pickle.dumps(mine)
    got = ns.share(mine)
    assert pickle.dumps(mine) == before and got["x"] is not mine["x"] and mine["x"].flags.writeable


# --- what cannot be -------------------------------------------------------------------------------------------------


class Unpicklable:
    def __reduce__(self):
        raise ValueError("no such hour")


def fail_on(rank):
    if MPI.COMM_WORLD.rank == rank:
        raise ValueError("no such minute")
    return "well"


class FailsThere:
    """Comes back to life on all ranks but one."""

    def __init__(self, rank):
        self.rank = rank

    def __reduce__(self):
        return fail_on, (self.rank,)


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: [content("f8", 10), Unpicklable()], ValueError, "no such hour"),
        (lambda: {"f": lambda: 3}, Exception, "lambda"),
        (lambda: (n for n in "a"), TypeError, "generator"),
    ],
    ids=["an error of its own", "a function without a name", "a generator"],
)
def test_what_the_root_cannot_pickle_is_told_to_all(make, kind, text):
    error = outcome(lambda: shared(make, root=LAST))
    if world.rank == LAST:
        assert isinstance(error, kind) and text in str(error)
    else:
        told(error, ns.PeerError, f"rank {LAST} on ", text)


@pytest.mark.parametrize("rank", [0, LAST])
def test_what_one_rank_cannot_unpickle_is_told_to_all(rank):
    error = outcome(lambda: shared(lambda: [content("f8", 1000), FailsThere(rank)]))
    one_failed(error, rank, ValueError, "no such minute")


@pytest.mark.ranks(2, 3, 5)
def test_a_shared_array_that_a_rank_has_dropped_cannot_arrive_there():
    a = ns.zeros(10)
    if world.rank == LAST:
        a.close()
        del a
    one_failed(outcome(lambda: shared(lambda: a)), LAST, ns.Error, "let go")
    a = None


@pytest.mark.ranks(2, 3, 5)
def test_different_roots_are_a_mismatch():
    told(outcome(lambda: ns.share(1, root=int(world.rank == LAST))), ns.Mismatch, "root=0", "root=1", "test_share.py:")
