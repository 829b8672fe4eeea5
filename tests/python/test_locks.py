# SPDX-License-Identifier: BSD-3-Clause
"""Locks, counters and barriers of a node: nothing lost or doubled, and never silently for one of several nodes."""

import copy
import gc
import itertools
import multiprocessing
import operator
import os
import pickle
import threading
import time

import numpy as np
import pytest
from mpi4py import MPI
from support import LAST, alive, leaves_nothing, outcome, private_bytes, started, told, world  # noqa: F401

import nodeshare as ns

pytestmark = pytest.mark.usefixtures("leaves_nothing")

KINDS = [ns.Lock, ns.RWLock, ns.Counter, ns.Barrier]
SIDES = {"Lock": ns.Lock, "reader": lambda comm: ns.RWLock(comm).reader, "writer": lambda comm: ns.RWLock(comm).writer}
node = ns.topology().node_comm  # where they may be made
several_ranks = pytest.mark.ranks(2, 3, 5)
here = f"on {ns.topology().host}"


def in_thread(call):
    """Return what a call gives, or raises, in another thread."""
    thread, got = started(call)
    thread.join()
    return got[0]


sides = pytest.mark.parametrize("make", SIDES.values(), ids=SIDES)  # called with COMM_SELF: a lock of this rank alone


# --- one at a time --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [ns.Lock, lambda comm: ns.RWLock(comm).writer], ids=["Lock", "writer"])
def test_additions_under_a_lock_are_not_lost(make):
    lock, total = make(node), ns.zeros(1, int, comm=node)
    for _ in range(3000):
        with lock:
            total[0] += 1
    node.Barrier()
    assert total[0] == 3000 * node.size


def test_numbers_of_a_counter_are_given_once():
    counter = ns.Counter(node)
    mine = [counter.add() for _ in range(3000)]
    assert mine == sorted(mine)
    assert sorted(itertools.chain(*node.allgather(mine))) == list(range(3000 * node.size))
    assert counter.value == 3000 * node.size


def test_readers_see_all_of_what_a_writer_wrote():
    lock, pair = ns.RWLock(node), ns.zeros(100, int, comm=node)
    for i in range(2000):
        if i % 5 == node.rank % 5:
            with lock.writer:
                pair[0] += 1
                pair[99] += 1
        else:
            with lock.reader:
                assert pair[0] == pair[99]
    node.Barrier()
    assert pair[0] == pair[99] == 400 * node.size


def test_all_may_read_at_the_same_time_and_a_writer_waits_for_them():
    lock = ns.RWLock(node)
    with lock.reader:
        node.Barrier()
        assert repr(lock).count(here) == node.size
        node.Barrier()
        if node.rank == 0:
            assert not in_thread(lambda: lock.writer.acquire(timeout=0.01))
        node.Barrier()
    node.Barrier()
    if node.rank == 0:
        assert lock.writer.acquire(blocking=False)
    node.Barrier()
    assert not lock.reader.acquire(blocking=False) and not lock.writer.acquire(blocking=False)
    node.Barrier()
    if node.rank == 0:
        lock.writer.release()


@sides
def test_threads_of_a_rank_exclude_each_other(make):
    held = make(MPI.COMM_SELF)
    held.acquire()
    if "reader" not in repr(held):
        assert in_thread(lambda: held.acquire(blocking=False)) is False
        assert in_thread(lambda: held.acquire(timeout=0.01)) is False
    waiting = threading.Thread(target=lambda: held.acquire() and held.release())
    waiting.start()  # the GIL is free while it waits
    held.release()
    waiting.join()


def test_a_barrier_waits_for_all_and_makes_writes_seen():
    barrier, seen = ns.Barrier(node), ns.zeros(node.size, int, comm=node)
    for step in range(1, 200):
        seen[node.rank] = step
        barrier.wait()
        assert (seen.array == step).all()
        barrier.wait()


# --- who holds it ---------------------------------------------------------------------------------------------------


def test_the_owner_is_named():
    lock = ns.Lock(node)
    assert repr(lock).endswith(", free>") and "Lock() at test_locks.py:" in repr(lock) and not lock.locked()
    node.Barrier()
    if node.rank == node.size - 1:
        lock.acquire()
    node.Barrier()
    owner = f"rank {node.size - 1} {here}"
    assert repr(lock).endswith(f", held by {owner}>") and lock.locked()
    if node.rank != node.size - 1:
        told(outcome(lock.release), ns.Error, "this thread does not hold", owner)
    node.Barrier()
    if node.rank == node.size - 1:
        lock.release()


@sides
def test_what_nobody_holds_cannot_be_released(make):
    held = make(MPI.COMM_SELF)
    told(outcome(held.release), ns.Error, "at test_locks.py:")


@sides
def test_a_thread_hears_that_it_would_wait_for_itself(make):
    held = make(MPI.COMM_SELF)
    with held:
        told(outcome(held.acquire), ns.Error, "already")
        told(outcome(lambda: held.acquire(timeout=1)), ns.Error, "already")
        assert held.acquire(blocking=False) is False
        assert held.locked()
    assert not held.locked()


def test_a_thread_neither_writes_while_it_reads_nor_the_other_way_round():
    lock = ns.RWLock(MPI.COMM_SELF)
    for one, other in ((lock.reader, lock.writer), (lock.writer, lock.reader)):
        with one:
            told(outcome(other.acquire), ns.Error, "already")


@sides
def test_another_thread_cannot_release(make):
    held = make(MPI.COMM_SELF)
    with held:
        told(in_thread(held.release), ns.Error)


@sides
def test_an_owner_that_ended_without_releasing_leaves_an_error_to_all(make):
    held = make(MPI.COMM_SELF)
    in_thread(held.acquire)
    end = time.monotonic() + 5
    error = outcome(held.acquire)
    if "reader" in repr(held):  # readers do not wait for readers
        held.release()
        return
    for again in (error, outcome(held.acquire), outcome(held.release), outcome(lambda: held.acquire(blocking=False))):
        told(again, ns.PeerError, f"rank 0 {here} has ended while it held", "test_locks.py:")
    assert time.monotonic() < end


# --- arguments ------------------------------------------------------------------------------------------------------


@sides
def test_arguments_are_those_of_threading(make):
    held = make(MPI.COMM_SELF)
    assert held.acquire(True, 0.5) is True
    held.release()
    assert held.acquire(blocking=True, timeout=None) is True
    held.release()
    assert held.acquire(timeout=-1) is True
    held.release()
    assert held.__enter__() is True
    assert held.__exit__(None, None, None) is None


BAD = [{"timeout": -2}, {"timeout": float("nan")}, {"blocking": False, "timeout": 1}, {"blocking": False, "timeout": 0}]


@sides
@pytest.mark.parametrize("options", BAD, ids=str)
def test_timeouts_that_cannot_be_meant_are_refused(make, options):
    held = make(MPI.COMM_SELF)
    told(outcome(lambda: held.acquire(**options)), ns.InvalidArgument)
    assert not held.locked()


@pytest.mark.parametrize(
    ("given", "options"), [((1, 2, 3), {}), (("x", "y"), {}), ((True,), {"blocking": True}), ((), {"wait": 1})], ids=str
)
@sides
def test_other_arguments_are_type_errors(make, given, options):
    held = make(MPI.COMM_SELF)
    assert isinstance(outcome(lambda: held.acquire(*given, **options)), TypeError)
    assert not held.locked()


def test_a_wait_ends_when_its_time_is_over():
    lock = ns.Lock(node)
    if node.rank == 0:
        lock.acquire()
    node.Barrier()
    if node.rank != 0:
        for seconds in (0, 0.02, 0.1):
            begin = time.monotonic()
            assert not lock.acquire(timeout=seconds)
            assert time.monotonic() - begin >= seconds
    node.Barrier()
    if node.rank == 0:
        lock.release()


@pytest.mark.parametrize("k", [3, -8, 0, np.int32(5), np.uint8(5), True], ids=repr)
def test_any_integer_can_be_added(k):
    counter = ns.Counter(MPI.COMM_SELF)
    assert counter.add(k) == 0 and counter.value == k


def test_what_a_counter_refuses():
    counter = ns.Counter(MPI.COMM_SELF)
    for k, kind in ((2**63, OverflowError), (-(2**63) - 1, OverflowError), (1.0, TypeError), ("1", TypeError)):
        assert isinstance(outcome(lambda k=k: counter.add(k)), kind)
    assert isinstance(outcome(lambda: setattr(counter, "value", 3)), AttributeError)
    assert counter.value == 0 and "value 0>" in repr(counter)


def test_a_counter_wraps():
    counter = ns.Counter(MPI.COMM_SELF)
    counter.add(2**63 - 1)
    assert counter.add() == 2**63 - 1 and counter.value == -(2**63)


@pytest.mark.parametrize("timeout", [-1, "soon", float("nan")], ids=repr)
def test_a_barrier_s_bad_timeout_is_told_to_all(timeout):
    barrier = ns.Barrier(node)
    last = node.rank == node.size - 1
    error = outcome(lambda: barrier.wait(timeout if last else None))
    if last:
        told(error, ns.InvalidArgument, repr(timeout))
    else:
        told(error, ns.PeerError, f"rank {node.size - 1} {here}", "InvalidArgument")
    barrier.wait(10)


@several_ranks
def test_a_rank_whose_time_is_over_leaves_the_barrier_to_be_used_again():
    barrier = ns.Barrier(node)
    if node.size > 1:
        if node.rank == 0:
            told(outcome(lambda: barrier.wait(0.01)), ns.Error, "missing: ", f"rank 1 {here}")
        node.Barrier()
        if node.rank > 0:
            told(outcome(barrier.wait), ns.PeerError, f"rank 0 {here} ran out of time")
    barrier.wait(10)


# --- where they may be made -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_on_several_nodes_all_are_told_how_to_make_one_for_each(kind):
    if ns.topology().nodes == 1:
        kind()
    else:
        told(outcome(kind), ns.InvalidArgument, f"a {kind.__name__} is of one node", "topology().node_comm")


@several_ranks
@pytest.mark.parametrize("kind", KINDS)
def test_a_rank_that_calls_something_else_is_named(kind):
    error = outcome(lambda: kind() if world.rank == LAST else ns.zeros(3))
    if ns.topology().nodes == 1:
        told(error, ns.Mismatch, f"{kind.__name__}()", "zeros(shape=(3,)")
    else:
        kind_of_error = ns.InvalidArgument if world.rank == LAST else ns.PeerError
        told(error, kind_of_error, f"a {kind.__name__} is of one node")


@several_ranks
def test_two_barriers_are_not_mistaken_for_each_other():
    one, other = ns.Barrier(node), ns.Barrier(node)
    if node.size > 1:
        told(outcome((one if node.rank == 0 else other).wait), ns.Mismatch, "barrier.wait(")
    one.wait()


def test_they_outlive_their_communicator():
    comm = node.Dup()
    lock, counter, rw = ns.Lock(comm), ns.Counter(comm), ns.RWLock(comm)
    comm.Free()
    for _ in range(100):
        with lock, rw.reader:
            counter.add()
    node.Barrier()
    assert counter.value == 100 * node.size
    node.Barrier()


# --- memory ---------------------------------------------------------------------------------------------------------


def test_what_is_dropped_gives_its_memory_back():
    before = alive()
    for _ in range(100):
        kept = [kind(node) for kind in KINDS]
    del kept
    gc.collect()
    assert alive() == before


@pytest.mark.parametrize("times", [10_000, pytest.param(100_000, marks=[pytest.mark.slow, pytest.mark.ranks(2)])])
def test_many_operations_take_no_memory(times):
    lock, counter, rw, barrier = ns.Lock(node), ns.Counter(node), ns.RWLock(node), ns.Barrier(MPI.COMM_SELF)

    def work(times):
        for _ in range(times):
            with lock:
                pass
            with rw.reader:
                pass
            with rw.writer:
                pass
            lock.acquire(False) and lock.release()
            counter.add()
            barrier.wait()
            repr(lock)

    work(1000)
    before = private_bytes()
    work(times)
    assert private_bytes() - before < 1 << 18


# --- other processes ------------------------------------------------------------------------------------------------


def test_a_pickle_is_the_same_lock():
    lock, rw, counter = node.bcast([ns.Lock(node), ns.RWLock(node), ns.Counter(node)])
    for _ in range(300):
        with lock, rw.writer:
            counter.add()
    node.Barrier()
    assert counter.value == 300 * node.size
    node.Barrier()
    if node.rank == 0:
        lock.acquire()
    node.Barrier()
    assert lock.locked() and (node.rank == 0 or not lock.acquire(False))
    node.Barrier()
    if node.rank == 0:
        lock.release()


@pytest.mark.parametrize("kind", [ns.Lock, ns.RWLock, ns.Counter])
def test_it_is_not_copied_with_what_it_is_in(kind):
    made = kind(MPI.COMM_SELF)
    for whole in (made, [made], {"x": (made,)}):
        told(outcome(lambda whole=whole: copy.deepcopy(whole)), ns.Error, kind.__name__)


def add_in_child(lock, rw, counter, total):
    for _ in range(300):
        with lock:
            total[0] += 1
        with rw.writer:
            total[1] += 1
        with rw.reader:
            counter.add()


@pytest.mark.ranks(1, 2)
def test_forked_children_of_multiprocessing_take_part():
    lock, rw, counter = ns.Lock(MPI.COMM_SELF), ns.RWLock(MPI.COMM_SELF), ns.Counter(MPI.COMM_SELF)
    total = ns.zeros(2, int, comm=MPI.COMM_SELF)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        several = [pool.apply_async(add_in_child, (lock, rw, counter, total)) for _ in range(3)]
        add_in_child(lock, rw, counter, total)
        for one in several:
            one.get(30)
    assert total.array.tolist() == [1200, 1200] and counter.value == 1200


@pytest.mark.ranks(1, 2)
def test_other_processes_take_part_where_they_can_have_the_memory():
    lock, counter = ns.Lock(MPI.COMM_SELF), ns.Counter(MPI.COMM_SELF)

    def in_child(call, what):  # not a function of this file, which would start MPI there
        child = multiprocessing.get_context("spawn").Process(target=call, args=(what,))
        child.start()
        child.join()
        return child.pid

    in_child(operator.methodcaller("add", 5), counter)
    assert counter.value == 5
    pid = in_child(operator.methodcaller("acquire"), lock)
    told(outcome(lock.acquire), ns.PeerError, f"process {pid} has ended while it held")


@pytest.mark.ranks(1, 2)
def test_a_forked_child_does_not_hold_what_its_parent_holds():
    lock = ns.Lock(MPI.COMM_SELF)
    with lock:
        child = os.fork()
        if child == 0:
            right = isinstance(outcome(lock.release), ns.Error) and not lock.acquire(False)
            os._exit(0 if right else 1)
        assert os.waitpid(child, 0)[1] == 0
    assert not lock.locked()


@pytest.mark.ranks(1)
def test_where_nobody_has_the_memory_a_pickle_says_so():
    raw = pickle.dumps(ns.Lock())
    gc.collect()
    told(outcome(lambda: pickle.loads(raw)), ns.Error)
    told(outcome(lambda: pickle.dumps(ns.Barrier())), ns.Error, "Barrier")
