# SPDX-License-Identifier: BSD-3-Clause
"""Dealing out indices: each exactly once in the job, and never a row from a rank that did not do it."""

import gc
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from mpi4py import MPI
from support import (  # noqa: F401
    LAST,
    alive,
    leaves_nothing,
    one_failed,
    outcome,
    private_bytes,
    same,
    told,
    world,
)

import nodeshare as ns

pytestmark = pytest.mark.usefixtures("leaves_nothing")
COUNTS = [0, 1, 2, world.size - 1, world.size, 7, 100, 1013]


def everyone_s(mine):
    """Return the indices of all ranks, sorted."""
    return sorted(sum(world.allgather(list(mine)), []))


@pytest.mark.parametrize("chunk", [None, 1, 3, 10**6])
@pytest.mark.parametrize("schedule", ["dynamic", "static"])
@pytest.mark.parametrize("n", sorted(set(COUNTS)))
def test_each_index_is_dealt_once_in_the_whole_job(n, schedule, chunk):
    hours = ns.work(n, chunk, schedule)
    assert len(hours) == n
    assert everyone_s(hours) == list(range(n))


def test_a_node_does_one_contiguous_block_in_proportion_to_its_ranks():
    n, t = 997, ns.topology()
    done = world.allgather(list(ns.work(n)))
    first = 0
    for node in range(t.nodes):
        block = sorted(sum((done[rank] for rank in t.ranks_on(node)), []))
        assert block == list(range(first, first + len(block)))
        assert abs(len(block) - n * len(t.ranks_on(node)) / t.size) < 2
        first += len(block)
    assert first == n


def test_a_static_work_gives_each_rank_of_a_node_one_block():
    mine = list(ns.work(1000, schedule="static"))
    assert mine == list(range(mine[0], mine[0] + len(mine)))
    assert max(world.allgather(len(mine))) - min(world.allgather(len(mine))) <= 2


@pytest.mark.ranks(2, 3, 5)
def test_a_rank_that_is_slow_leaves_indices_to_the_others_of_its_node():
    t = ns.topology()
    done = 0
    for _ in ns.work(30 * world.size, chunk=1):
        done += 1
        if t.is_leader:
            time.sleep(0.02)
    counts = world.allgather(done)
    assert t.node_size == 1 or counts[t.ranks_on(t.node)[0]] < max(counts[rank] for rank in t.ranks_on(t.node))


@pytest.mark.parametrize("items", [["a", "b", "c", "d"], (), (1.5, None), range(3, 20, 2), "text"], ids=repr)
def test_items_of_a_sequence_are_dealt_once(items):
    hours = ns.work(items)
    mine = list(hours)
    assert len(hours) == len(items)
    assert sorted(sum(world.allgather(mine), []), key=str) == sorted(items, key=str)


@pytest.mark.parametrize("values", [[2.5, 3.5, 4.5], [7], [[1, 2], [3, 4]]], ids=str)
@pytest.mark.parametrize("kind", [np.array, lambda values: ns.array(values)], ids=["ndarray", "SharedArray"])
def test_items_of_an_array_are_its_rows(kind, values):
    mine = [np.asarray(item).tolist() for item in ns.work(kind(values))]
    assert sorted(sum(world.allgather(mine), [])) == sorted(values)


@pytest.mark.parametrize("n", [np.int64(5), np.uint8(5)], ids=repr)
def test_a_numpy_integer_is_a_number_of_indices(n):
    assert everyone_s(ns.work(n)) == list(range(5))


def test_a_communicator_of_its_own():
    assert list(ns.work(6, comm=MPI.COMM_SELF)) == list(range(6))


def test_the_text_of_a_work_is_local():
    hours = ns.work(12)
    if world.rank == 0:
        assert repr(hours) == f"<Work: 12 indices over {world.size} ranks>"


# --- filling an array -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("schedule", ["dynamic", "static"])
@pytest.mark.parametrize("n", sorted(set(COUNTS)))
def test_allgather_gives_every_node_every_row(n, schedule, order):
    y = ns.full((n, 3), -1.0, order=order)
    hours = ns.work(n, schedule=schedule)
    for i in hours:
        y[i] = [i, 2 * i, i * i]
    y.allgather(hours)
    expected = np.array([[i, 2 * i, i * i] for i in range(n)], float).reshape(n, 3)
    assert same(y.array, expected)


def test_allgather_of_a_work_again_and_of_several_arrays():
    x, y = ns.zeros(50, int), ns.zeros((50, 2), "S4")
    hours = ns.work(50, chunk=3)
    for i in hours:
        x[i], y[i] = i + 1, str(i)
    for _ in range(2):
        x.allgather(hours)
        y.allgather(hours)
    assert x.array.tolist() == list(range(1, 51))
    assert y.array.tolist() == [[str(i).encode()] * 2 for i in range(50)]


def test_two_works_interleaved():
    x, y = ns.zeros(40, int), ns.zeros(31, int)
    first, second = ns.work(40), ns.work(31, chunk=2)
    one, two = iter(first), iter(second)
    running = [one, two]
    while running:
        for it in list(running):
            i = next(it, None)
            if i is None:
                running.remove(it)
            elif it is one:
                x[i] += i + 1
            else:
                y[i] += 2 * i + 1
    y.allgather(second)
    x.allgather(first)
    assert x.array.tolist() == [i + 1 for i in range(40)]
    assert y.array.tolist() == [2 * i + 1 for i in range(31)]


def test_two_works_one_after_the_other_whatever_their_order_on_a_rank():
    x, y = ns.zeros(40, int), ns.zeros(31, int)
    works = [(x, ns.work(40)), (y, ns.work(31, schedule="static"))]
    for array, dealt in works[:: 1 if world.rank % 2 else -1]:
        for i in dealt:
            array[i] += i + 1
    for array, dealt in works:
        array.allgather(dealt)
        assert array.array.tolist() == list(range(1, len(array) + 1))


# --- loops in loops -------------------------------------------------------------------------------------------------


def test_an_inner_work_of_this_rank_alone_is_done_in_full_for_each_outer_index():
    table = ns.zeros((2 * world.size, 5))
    rows = ns.work(2 * world.size)
    for i in rows:
        for j in ns.work(5, comm=MPI.COMM_SELF):
            for k in ns.work(1, comm=MPI.COMM_SELF):
                table[i, j] += 10 * i + j + k
    table.allgather(rows)
    assert table.array.tolist() == [[10 * i + j for j in range(5)] for i in range(2 * world.size)]


def test_nodes_share_an_outer_work_and_their_ranks_an_inner_one():
    t = ns.topology()
    leaders = world.Split(0 if t.is_leader else MPI.UNDEFINED)
    node = t.node_comm
    table = ns.zeros((7, 5))
    rows = ns.work(7, comm=leaders) if t.is_leader else None
    mine = iter(rows) if t.is_leader else None
    while (i := node.bcast(next(mine, None) if t.is_leader else None)) is not None:
        cells = ns.work(5, comm=node)
        for j in cells:
            table[i, j] += 10 * i + j
        for _ in ns.work(5, comm=node):  # also without an array
            pass
        node.Barrier()
    table.allreduce_copies()
    assert table.array.tolist() == [[10 * i + j for j in range(5)] for i in range(7)]
    if t.is_leader:
        leaders.Free()


@pytest.mark.ranks(2, 3, 5)
@pytest.mark.timeout(15)
@pytest.mark.parametrize("inner", ["work", "map", "map_blocks"])
def test_an_inner_work_of_the_same_ranks_is_refused_by_all(inner):
    make = {"work": lambda: ns.work(5), "map": lambda: ns.map(abs, 5), "map_blocks": lambda: ns.map_blocks(abs, x)}
    x = np.arange(5)

    def loop():
        for _ in ns.work(world.size, schedule="static"):  # as many on each rank: nothing else would be noticed
            make[inner]()

    told(outcome(loop), ns.Error, "another work", "COMM_SELF")
    assert everyone_s(ns.work(5)) == list(range(5))


@pytest.mark.ranks(2, 3, 5)
@pytest.mark.timeout(15)
def test_an_inner_work_on_one_rank_against_another_call_is_told_to_all():
    def loop():
        for i in ns.work(world.size, schedule="static"):
            if i == LAST:
                ns.work(5)
        ns.zeros(3)

    here = ns.topology()
    one_failed(outcome(loop), here.ranks_on(here.nodes - 1)[-1], ns.Error, "another work")


@pytest.mark.ranks(2, 3, 5)
@pytest.mark.timeout(15)
def test_a_loop_that_is_over_in_whatever_way_is_no_outer_loop():
    def stopped(way):
        for i in ns.work(5 * world.size):
            if way == "break":
                break
            if way == "raise":
                raise KeyError(i)
            if way == "return":
                return

    for way in ("break", "return", "raise", "end"):
        assert type(outcome(lambda: stopped(way))) in (KeyError, type(None))  # noqa: B023
    kept = iter(ns.work(["a"] * 5 * world.size))
    next(kept)
    kept.close()
    cycle = [iter(ns.work(5 * world.size))]
    cycle.append(cycle)
    next(cycle[0])
    del cycle
    gc.collect()
    assert everyone_s(ns.work(5)) == list(range(5))


# --- threads --------------------------------------------------------------------------------------------------------


def test_threads_have_a_work_each():
    works = [ns.work(n, chunk=1) for n in (500, 300, 400)]
    with ThreadPoolExecutor(len(works)) as pool:
        done = list(pool.map(list, works))
    for n, mine in zip((500, 300, 400), done):
        assert everyone_s(mine) == list(range(n))


# --- arguments ------------------------------------------------------------------------------------------------------

BAD = [((-1,), {}), ((5, 0), {}), ((5, -3), {}), ((2.5,), {}), ((5,), {"schedule": "guided"}), ((5,), {"schedule": 1})]
BAD += [((None,), {}), (({1, 2},), {}), (((i for i in [1]),), {}), ((2**70,), {}), ((5, 2.5), {}), ((5, "3"), {})]
BAD += [((5, 2**70), {}), (({0: "a"},), {}), ((np.array(3),), {})]


@pytest.mark.parametrize("arguments, options", BAD, ids=str)
def test_what_cannot_be_dealt_is_refused(arguments, options):
    told(outcome(lambda: ns.work(*arguments, **options)), ns.InvalidArgument)


@pytest.mark.ranks(2, 3, 5)
@pytest.mark.timeout(15)
@pytest.mark.parametrize("arguments, options", BAD, ids=str)
def test_what_one_rank_cannot_deal_is_told_to_all(arguments, options):
    error = outcome(lambda: ns.work(*arguments, **options) if world.rank == LAST else ns.work(5))
    one_failed(error, LAST, ns.InvalidArgument)


def test_tables_are_refused_as_they_are_indexed_by_labels():
    pandas = pytest.importorskip("pandas")
    for table in (pandas.Series([1, 2], [1, 0]), pandas.DataFrame({0: [1]})):
        told(outcome(lambda: ns.work(table)), ns.InvalidArgument, type(table).__name__, "list(")  # noqa: B023


# --- progress -------------------------------------------------------------------------------------------------------


def test_progress_in_a_file_is_a_line_each_10_percent(capfd):
    for _ in ns.work(10, chunk=1, progress=True, comm=MPI.COMM_SELF):
        time.sleep(0.11)
    assert capfd.readouterr().err.splitlines() == [f"{10 * i} %: {i} of 10" for i in range(1, 11)]


@pytest.mark.parametrize("schedule", ["dynamic", "static"])
def test_progress_is_told_before_the_end(capfd, schedule):
    told_at = []
    for _ in ns.work(4, schedule=schedule, progress=True, comm=MPI.COMM_SELF):
        told_at.append(capfd.readouterr().err)
        time.sleep(0.11)
    assert told_at[0] == "" and any(told_at[1:])


def test_progress_comes_from_rank_0_only_and_ends_at_100_percent(capfd):
    hours = ns.work(40 * world.size, progress=True)
    for _ in hours:
        pass
    err = capfd.readouterr().err
    if world.rank == 0:
        numbers = [int(line.partition(" %")[0]) for line in err.splitlines()]
        assert numbers == sorted(set(numbers)) and numbers[-1] == 100 and len(numbers) <= 10
    else:
        assert err == ""


def test_progress_of_nothing_says_nothing(capfd):
    assert list(ns.work(0, progress=True)) == []
    assert capfd.readouterr().err == ""


def test_an_item_that_cannot_be_had_is_not_done():
    class Items(list):
        def __getitem__(self, i):
            if i == 0:
                raise OSError("no such item")
            return i

    n = 3 * world.size
    y, dealt = ns.zeros(n), ns.work(Items(range(n)))
    told(outcome(lambda: list(dealt)) or OSError("no such item"), OSError, "no such item")
    told(outcome(lambda: y.allgather(dealt)), ns.Error if ns.topology().node == 0 else ns.PeerError, "indices 0 to ")


def test_a_work_leaves_nothing_allocated():
    before = alive()
    for _ in range(20):
        for _ in ns.work(3):
            pass
    assert alive() == before


# --- memory ---------------------------------------------------------------------------------------------------------

DEALT = {
    "work": lambda array: list(ns.work(3, comm=MPI.COMM_SELF)),
    "a work that is left": lambda array: next(iter(ns.work("xyz", comm=MPI.COMM_SELF))),
    "map": lambda array: ns.map(str, range(3), comm=MPI.COMM_SELF),
    "map with out=": lambda array: ns.map(float, range(3), out=array),
    "map_blocks": lambda array: ns.map_blocks(np.negative, array, dtype=float),
}


@pytest.mark.ranks(1, 2)
@pytest.mark.parametrize("call", DEALT.values(), ids=DEALT)
@pytest.mark.parametrize("times", [2000, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.ranks(2)])])
def test_many_of_them_take_no_memory(call, times):
    array = ns.zeros(3, comm=MPI.COMM_SELF)
    for _ in range(1000):
        call(array)
    gc.collect()
    before = private_bytes()
    for _ in range(times):
        call(array)
    gc.collect()
    assert private_bytes() - before < 1 << 18
