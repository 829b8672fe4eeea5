# SPDX-License-Identifier: BSD-3-Clause
"""Many small arrays in one piece of memory: the same places on all ranks, and little beside the data."""

import copy
import gc
import operator
import os
import pickle
import subprocess
import sys
import textwrap
import tracemalloc

import numpy as np
import pytest
from mpi4py import MPI
from support import (  # noqa: F401
    DTYPES,
    LAST,
    address,
    alive,
    by_node,
    content,
    leaves_nothing,
    only,
    outcome,
    same,
    told,
    world,
)

import nodeshare as ns

pytestmark = pytest.mark.usefixtures("leaves_nothing")

MEGABYTE = 1 << 20
several_ranks = pytest.mark.ranks(2, 3, 5)


def is_zero(array):
    return not any(array.reshape(-1, order="A").view("u1"))


def refill(x):
    """Collective. As `by_node`, when all ranks have looked at what there was."""
    x.sync()
    by_node(x)


# --- what it gives ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_an_array_of_any_type_is_zero_aligned_and_the_node_s(dtype, order):
    a = ns.arena(MEGABYTE)
    a.zeros(1, "i1")  # what comes after it lies on no page's beginning
    x = a.zeros((3, 4), dtype, order=order)
    assert isinstance(x, ns.SharedArray) and type(x.array) is np.ndarray
    assert (x.shape, x.dtype, x.order) == ((3, 4), np.dtype(dtype), order)
    assert x.array.strides == np.empty((3, 4), dtype, order).strides
    assert address(x.array) % 64 == 0 and x.array.flags.writeable
    assert is_zero(x.array)
    a.sync()  # before that, others may write already
    x.local[...] = content(dtype, (3, 4), order=order)[slice(*x.rows())]
    x.sync()
    assert same(x.array, content(dtype, (3, 4)))
    x.sync()


@pytest.mark.parametrize("shape", [(), 0, (0,), (3, 0), 1, 7, (2, 3, 4), (1, 1), (5, 1, 2)])
@pytest.mark.parametrize("order", ["C", "F"])
def test_shapes(shape, order):
    a = ns.arena(MEGABYTE)
    for create in (a.zeros, a.empty, a.ones):
        x = create(shape, "f4", order=order)
        plain = np.empty(shape, "f4", order)
        assert (x.shape, x.size, x.nbytes, x.ndim) == (plain.shape, plain.size, plain.nbytes, plain.ndim)
        assert x.order == ("F" if plain.flags.fnc else "C")
        if plain.size:
            assert x.array.strides == plain.strides
        x.sync()
    assert (x.array == 1).all()


def test_ones_and_full_are_filled_by_all_ranks():
    a = ns.arena(MEGABYTE)
    ones, sevens, rows = a.ones((9, 2), "i4"), a.full((9, 2), 7), a.full((9, 3), [1, 2, 3], order="F")
    word, record = a.full((), "word"), a.full(4, np.array((1, 2.5), "i4, f8"))
    a.sync()
    assert ones.dtype == "i4" and (ones.array == 1).all()
    assert sevens.dtype == int and (sevens.array == 7).all()
    assert rows.order == "F" and (rows.array == [1, 2, 3]).all()
    assert word.array[()] == "word" and record.array.tolist() == [(1, 2.5)] * 4


def test_arrays_do_not_touch_one_another():
    a = ns.arena(MEGABYTE)
    sizes = [0, 1, 63, 64, 65, 1000, 4096, 3]
    arrays = [a.zeros(size, "u1") for size in sizes]
    for number, x in enumerate(arrays):
        x.local[...] = number + 1
    a.sync()
    assert [x.array.tolist() for x in arrays] == [[number + 1] * size for number, size in enumerate(sizes)]
    assert len({address(x.array) for x in arrays}) == len(sizes)  # those of no bytes, too
    a.sync()


def test_what_it_tells_of_itself():
    with ns.arena(1000) as a:
        assert (a.nbytes, a.used, a.free, a.count, len(a)) == (1000, 0, 1000, 0, 0) and a
        a.zeros(3, "u1")
        a.zeros(5, "f8")
        assert (a.nbytes, a.used, a.free, a.count, len(a)) == (1000, 104, 872, 2, 2)
        nodes = a.topology.nodes
        assert repr(a) == f"<Arena of 2 arrays, 104 of 1000 bytes used, on {nodes} node{'s' * (nodes > 1)}>"
    assert repr(a) == "<Arena closed>"
    told(outcome(lambda: a.zeros(3)), ns.Error, "closed")
    told(outcome(lambda: a.count), ns.Error, "closed")
    a.close()


def test_memory_lists_it_once_with_what_is_used():
    before = ns.memory().arrays
    line = sys._getframe().f_lineno + 1
    a = ns.arena(2000, reserve=False)
    for _ in range(10):
        a.zeros(9)
    (entry,) = (one for one in ns.memory().arrays if one not in before)
    assert (entry.nbytes, entry.used, entry.holders) == (2000, 9 * 128 + 72, a.topology.node_size)
    for word in ("arena", "nbytes=2000", "reserve=False", f"test_arena.py:{line}"):
        assert word in entry.made
    world.Barrier()


# --- as other arrays -------------------------------------------------------------------------------------------------


def test_rows_parts_and_operators():
    a = ns.arena(MEGABYTE)
    a.zeros(5)
    x = a.zeros((10, 2), int)
    t = x.topology
    assert t == ns.topology()
    for rank in range(t.size):
        of = t.ranks_on(t.node_of(rank))
        number = of.index(rank)
        assert x.rows(rank) == (10 * number // len(of), 10 * (number + 1) // len(of))
        assert address(x.part(rank)) == address(x.array[x.rows(rank)[0] :])
    x.local += 1
    x.sync()
    assert np.add.reduce(x, axis=None) == 20 and (x == 1).all() and len(x) == 10 and (x + 1).sum() == 40
    assert copy.copy(x) is x
    told(outcome(lambda: operator.iadd(x, 1)), TypeError, "a.local")
    assert f"SharedArray {x.shape} int64 on" in repr(x)
    like = ns.zeros_like(x)
    assert like.shape == x.shape and type(like) is ns.SharedArray


@pytest.mark.parametrize("order", ["C", "F"])
def test_bcast_allgather_and_set_carry_this_array_alone(order):
    a = ns.arena(MEGABYTE)
    before, x, after = (a.zeros((11, 3), "i4", order=order) for _ in range(3))
    t = x.topology
    for number, array in enumerate((before, x, after)):
        by_node(array, 10 * number)
    x.bcast(LAST)
    assert same(x.array, content("i4", (11, 3), 10 + t.node_of(LAST)))
    x.set([7, 8, 9], 4, root=LAST)
    assert x[4].tolist() == [7, 8, 9]
    x.set(5, ([1, 3], [0, 2]))
    assert x[1, 0] == x[3, 2] == 5
    refill(x)
    x.allgather()
    for rank in range(t.size):
        rows = slice(11 * rank // t.size, 11 * (rank + 1) // t.size)
        assert same(x[rows], content("i4", (11, 3), t.node_of(rank))[rows])
    refill(x)
    done = ns.work(11)
    mine = list(done)
    x.allgather(done)
    for rank, rows in enumerate(world.allgather(mine)):
        assert same(x[rows], content("i4", (11, 3), t.node_of(rank))[rows])
    refill(x)
    x.allgather([LAST] * 11)
    assert same(x.array, content("i4", (11, 3), t.node_of(LAST)))
    assert same(before.array, content("i4", (11, 3), t.node))  # the neighbours keep each node's own bytes
    assert same(after.array, content("i4", (11, 3), 20 + t.node))


def test_writing_and_together():
    a = ns.arena(MEGABYTE)
    x, y = a.zeros(3), a.zeros((2, 2))
    with x.writing(root=LAST) as w:
        if w is not None:
            w[...] = [1, 2, 3]
    with ns.together(x, y, root=0) as mine:
        if mine:
            y[...] = 4
    assert x.array.tolist() == [1, 2, 3] and (y.array == 4).all()


def test_freeze_and_thaw():
    a = ns.arena(MEGABYTE)
    a.zeros(2)
    x = a.full((3, 4), 5, order="F")
    a.sync()
    place = address(x.array)
    x.freeze()
    assert not x.array.flags.writeable and x.order == "F" and address(x.array) == place
    told(outcome(lambda: x.set(1)), ns.InvalidArgument, "thaw()")
    x.thaw()
    x.set(6)
    assert (x.array == 6).all()
    x.sync()
    for call in (lambda: x.freeze(protect=True), x.mlock, x.munlock):
        told(outcome(call), ns.InvalidArgument, "others", "arena", "nodeshare.zeros")
    x.array[...] = 7


def test_handle_finds_the_array_behind_a_view_of_it():
    a = ns.arena(MEGABYTE)
    arrays = [a.zeros((6, 2), "f4", order=order) for order in "CFC"]
    for x in arrays:
        views = x.array, x.array[2:4], x.array[3:3], x.array.T, x.array.view("i4"), memoryview(x.array), memoryview(x)
        for view in (*views, np.asarray(views[-1])[1:], np.frombuffer(x.array if x.order == "C" else x.array.T, "u1")):
            found = ns.handle(view)
            assert (found.shape, found.dtype, found.order) == ((6, 2), np.dtype("f4"), x.order)
            assert address(found.array) == address(x.array) and ns.is_shared(view)
            assert found._name() == x._name()
    assert ns.handle(arrays[1]) is arrays[1]
    found.sync()


def test_handle_says_why_it_cannot_tell_the_array():
    a = ns.arena(MEGABYTE)
    a.zeros(3)
    nameless = a._segment.ndarray(np.dtype("u1"), (8,), (1,), True).data  # as another library may pass it on

    class Foreign:
        __array_interface__ = {**np.asarray(nameless).__array_interface__}

    foreign = np.asarray(Foreign())
    assert ns.is_shared(foreign)
    told(outcome(lambda: ns.handle(foreign)), ns.InvalidArgument, "arena(nbytes=1048576", "test_arena.py:", ".array")


def test_views_outlive_handle_and_arena():
    a = ns.arena(MEGABYTE)
    view = a.full(1000, 3).array[10:20]
    a.sync()
    a.close()
    del a
    gc.collect()
    ns.zeros(10)
    assert view.tolist() == [3] * 10
    assert ns.handle(view).shape == (1000,)
    world.Barrier()


def test_a_closed_array_leaves_the_others_alone():
    a = ns.arena(MEGABYTE)
    x, y = a.zeros((2, 3)), a.ones(3)
    view = x.array
    x.close()
    x.close()
    assert "(2, 3)" in repr(x) and "closed" in repr(x)
    told(outcome(lambda: x.array), ns.Error, "closed", "(2, 3)")
    y.sync()
    assert view.sum() == 0 and y.array.sum() == 3


@several_ranks
def test_sync_of_what_one_rank_has_closed():
    t = ns.topology()
    a = ns.arena(MEGABYTE)
    x = a.zeros(3)
    for what in (x, a):
        closing = t.node_rank == 0
        if closing:
            what.close()
        error = outcome(what.sync)
        if closing:
            told(error, ns.Error, "closed")
        else:
            told(error, ns.PeerError, "closed")
        x = a.zeros(3) if what is x else x


# --- pickles ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
def test_an_array_pickles_to_the_same_place(order):
    a = ns.arena(MEGABYTE)
    a.zeros(100)
    x = a.full((3, 2), 4, "i2", order=order)
    a.sync()
    data = pickle.dumps(x)
    assert len(data) < 2000
    y = pickle.loads(data)
    assert address(y.array) == address(x.array) and y.order == order and y.topology == x.topology
    assert same(y.array, x.array)
    y.bcast()
    x.freeze()
    assert not pickle.loads(pickle.dumps(x)).array.flags.writeable


def test_the_ranks_of_the_node_get_their_own_mapping():
    a = ns.arena(MEGABYTE)
    t = a.topology
    _, x = a.zeros(3), a.zeros(t.size, int)
    y = t.node_comm.bcast(x if t.is_leader else None)
    assert address(y.array) == address(x.array)
    y[t.rank] = t.rank + 1
    y.sync()
    assert [x[rank] for rank in t.ranks_on(t.node)] == [rank + 1 for rank in t.ranks_on(t.node)]


@pytest.mark.ranks(1)
def test_another_process_attaches_it():
    a = ns.arena(MEGABYTE, comm=MPI.COMM_SELF)
    x, y = a.full((3, 2), 4, "i2", order="F"), a.zeros(5)
    program = """
        import pickle, sys, nodeshare as ns
        x, y = pickle.load(sys.stdin.buffer)
        y[...] = x.array.sum() + (x.order == "F")
        part = x.array[1:]
        del x
        assert ns.handle(part).shape == (3, 2) and ns.handle(y.array[2:]).shape == (5,)
        assert pickle.loads(pickle.dumps(y)).array.sum() == y.array.sum()
    """
    argv = [sys.executable, "-c", textwrap.dedent(program)]
    ended = subprocess.run(argv, input=pickle.dumps((x, y)), capture_output=True, timeout=50)
    assert ended.returncode == 0, ended.stderr.decode()
    assert y.array.tolist() == [25] * 5


def test_an_arena_is_not_pickled():
    a = ns.arena(100)
    told(outcome(lambda: pickle.dumps(a)), ns.Error, "its arrays are")


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda a: a.zeros(3, object), ("objects",)),
        (lambda a: a.zeros(3, [("x", "f8"), ("y", "O")]), ("objects",)),
        (lambda a: a.full(3, [None, 1, 2]), ("objects",)),
        (lambda a: a.zeros(-1), ("(-1,)",)),
        (lambda a: a.zeros((3, 2.5)), ("2.5",)),
        (lambda a: a.zeros(3, order="A"), ("'A'",)),
        (lambda a: a.full(3, [1, 2]), ("(3,)",)),
        (lambda a: a.zeros(1 << 62), ("too large",)),
    ],
)
def test_what_is_refused_takes_nothing(call, words):
    a = ns.arena(1000)
    told(outcome(lambda: call(a)), ns.InvalidArgument, *words)
    assert (a.used, a.count) == (0, 0)
    a.zeros(3)
    a.sync()


@pytest.mark.parametrize("nbytes", [-1, 1.5, "many", None, 1 << 63, 1 << 200])
def test_an_arena_s_size_is_a_number_of_bytes(nbytes):
    told(outcome(lambda: ns.arena(nbytes)), ns.InvalidArgument, "nbytes", repr(nbytes))


def test_an_arena_larger_than_the_machine():
    told(outcome(lambda: ns.arena(1 << 50)), ns.OutOfSharedMemory, "arena needs 1 PiB")


def test_an_arena_of_no_bytes():
    a = ns.arena(0)
    told(outcome(lambda: a.zeros(0)), ns.OutOfSharedMemory, "0 B")
    a.sync()


def test_a_full_arena_raises_and_stays_usable():
    a = ns.arena(1000)
    x = a.full(50, 3)
    error = outcome(lambda: a.zeros(70))
    told(error, ns.OutOfSharedMemory, "zeros(shape=(70,), dtype=<f8", "560 B", "552 B of the 1000 B", "test_arena.py:")
    assert isinstance(error, MemoryError) and (a.count, a.free) == (1, 552)
    y = a.zeros(69)
    a.sync()
    assert (x.array == 3).all() and is_zero(y.array) and a.free == 0


@several_ranks
def test_full_on_one_rank_is_an_error_of_that_rank_and_then_a_mismatch_of_all():
    comm = world.Dup()
    a = ns.arena(1000, comm=comm)
    error = outcome(lambda: a.zeros(only(0, 200, 100)))
    assert told(error, ns.OutOfSharedMemory) if world.rank == 0 else error is None
    told(outcome(lambda: ns.zeros(3, comm=comm)), ns.Mismatch, "0 arrays from arena", "1 array from arena")
    ns.zeros(3, comm=comm)
    comm.Free()


# --- the same on all ranks -------------------------------------------------------------------------------------------


COLLECTIVES = {
    "bcast": lambda a, x, comm: x.bcast(),
    "allgather": lambda a, x, comm: x.allgather(),
    "set": lambda a, x, comm: x.set(1),
    "writing": lambda a, x, comm: x.writing().__enter__(),
    "another array": lambda a, x, comm: ns.zeros(3, comm=comm),
    "work": lambda a, x, comm: ns.work(3, comm=comm),
}


@several_ranks
@pytest.mark.parametrize("name", COLLECTIVES)
def test_the_next_collective_call_names_arena_and_counts(name):
    comm = world.Dup()
    a = ns.arena(MEGABYTE, comm=comm)
    line = sys._getframe().f_lineno - 1
    x = a.zeros(3)
    for _ in range(only(LAST, 10, 11)):
        a.zeros(7)
    error = outcome(lambda: COLLECTIVES[name](a, x, comm))
    made = f"arena(nbytes=1048576) at test_arena.py:{line}"
    told(error, ns.Mismatch, f"taken 12 arrays from {made}", f"taken 11 arrays from {made}", f"rank {LAST} on ")
    assert len(set(world.allgather(str(error)))) == 1
    x.bcast()  # told once, and the job goes on
    comm.Free()


@several_ranks
@pytest.mark.parametrize(
    "takes",
    [
        (lambda a: a.zeros(3), lambda a: a.zeros(4)),
        (lambda a: a.zeros((2, 3)), lambda a: a.zeros((3, 2))),
        (lambda a: a.zeros(2, "i4"), lambda a: a.zeros(2, "f4")),
        (lambda a: a.zeros((2, 3), order="C"), lambda a: a.zeros((2, 3), order="F")),
        (lambda a: a.zeros(2), lambda a: a.ones(2)),
        (lambda a: a.full(2, 1), lambda a: a.full(2, 2)),
    ],
)
def test_another_order_is_a_mismatch(takes):
    t = ns.topology()
    comm = t.node_comm
    a = ns.arena(MEGABYTE, comm=comm)
    mine = takes if t.node_rank == 0 else takes[::-1]
    for take in mine:
        take(a)
    error = outcome(a.sync)
    if t.node_size == 1:
        assert error is None
    else:
        told(error, ns.Mismatch, "arena.sync", "taken 2 arrays from arena(", "(the latest ", "digest")
        told(outcome(a.sync), ns.Mismatch, "arena.sync")  # the arena stays what it is
        ns.zeros(3, comm=comm)


@several_ranks
def test_another_order_on_another_node_is_found_over_the_communicator():
    comm = world.Dup()
    t = ns.topology(comm)
    a = ns.arena(MEGABYTE, comm=comm)
    for n in (3, 4) if t.node == 0 else (4, 3):
        a.zeros(n)
    a.sync()  # within a node all is the same
    error = outcome(lambda: ns.zeros(3, comm=comm))
    assert error is None if t.nodes == 1 else told(error, ns.Mismatch, "taken 2 arrays", "shape=(3,)", "shape=(4,)")
    ns.zeros(3, comm=comm)
    comm.Free()


@several_ranks
def test_sync_of_different_arrays_of_one_arena():
    comm = ns.topology().node_comm
    a = ns.arena(MEGABYTE, comm=comm)
    x, y = a.zeros(3), a.zeros(3)
    error = outcome((x if a.topology.rank == 0 else y).sync)
    assert error is None if a.topology.size == 1 else told(error, ns.Mismatch, "sync")
    x.sync()


def test_arenas_of_other_communicators_are_counted_apart():
    alone = ns.arena(MEGABYTE, comm=MPI.COMM_SELF)
    for _ in range(world.rank):
        alone.zeros(3)
    alone.sync()
    a = ns.zeros(3)
    a.bcast()


def test_an_arena_that_does_not_reserve():
    a = ns.arena(64 * MEGABYTE, reserve=False)
    x = a.full(1000, 2)
    a.sync()
    assert (x.array == 2).all()


# --- very many -------------------------------------------------------------------------------------------------------


def bytes_each(n, shape):
    """Return what Python takes for an array, beside the data and its place in a list."""
    a = ns.arena(n * 64)
    for _ in range(10):
        a.zeros(shape)
    a = ns.arena(n * 64)
    arrays = [None] * n
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for number in range(n):
        arrays[number] = a.zeros(shape)
    after = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len({address(x.array) for x in arrays[::1000]}) == n // 1000
    return (after - before) / n


@pytest.mark.ranks(1, 2)
@pytest.mark.parametrize("shape", [8, (2, 2, 2), (1, 2, 1, 2, 1, 2)])
def test_an_array_takes_at_most_400_bytes_beside_the_data(shape):
    assert bytes_each(10_000, shape) <= 400


@pytest.mark.ranks(1, 2)
def test_a_hundred_thousand_arrays():
    n = 100_000
    mappings = alive()[1]
    a = ns.arena(n * 64)
    arrays = [a.zeros(8, int) for _ in range(n)]
    assert alive()[1] <= mappings + 1 and a.count == n and a.free == 0
    size, rank = a.topology.node_size, a.topology.node_rank
    for number in range(rank, n, size):
        arrays[number].array[:] = number
    a.sync()
    assert all(arrays[number].array[7] == number for number in range(n))
    arrays[-1].bcast()


@pytest.mark.ranks(1)
def test_views_outlive_mpi(tmp_path):
    program = tmp_path / "program.py"
    program.write_text(
        textwrap.dedent("""
            from mpi4py import MPI
            import nodeshare as ns
            a = ns.arena(1 << 20)
            x, y = a.full(100, 3), a.zeros(2)
            a.sync()
            view = x.array[10:20]
            a.close()
            MPI.Finalize()
            del x, a
            assert view.sum() == 30 and y.array.sum() == 0
            y.array[:] = 1
            del y, view
            print("done")
        """)
    )
    env = {k: v for k, v in os.environ.items() if not k.startswith(("OMPI_", "PMI", "PMIX", "MPI_", "HYDRA"))}
    ended = subprocess.run([sys.executable, program], env=env, capture_output=True, text=True, timeout=50)
    assert ended.stdout == "done\n", ended.stderr
