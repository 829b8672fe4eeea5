# SPDX-License-Identifier: BSD-3-Clause
"""A Queue is a queue.Queue for the ranks of a node: each item to one of them, in order, with waits that end."""

import collections
import itertools
import queue
import random
import signal
import threading
import time

import numpy as np
import pytest
from mpi4py import MPI
from support import leaves_nothing, outcome, started, told, wait_asleep, world  # noqa: F401

import nodeshare as ns

pytestmark = pytest.mark.usefixtures("leaves_nothing")

node = ns.topology().node_comm
several_ranks = pytest.mark.ranks(2, 3, 5)


def own(*given):
    """Return a Queue of this rank alone."""
    return ns.Queue(*given, comm=MPI.COMM_SELF)


def in_turn(found):
    """Whether each writer's items come in the order they were put in."""
    last = collections.defaultdict(lambda: -1)
    for writer, number, *_ in found:
        if number <= last[writer]:
            return False
        last[writer] = number
    return True


# --- as queue.Queue -------------------------------------------------------------------------------------------------


def done(call, one):
    """Return what a call on a queue gives, or the type of what it raises."""
    try:
        return call(one)
    except Exception as error:
        return type(error)


def operation(rng, number):
    """Return something to do to a queue, possible or not."""
    return rng.choice(
        [
            ("put", lambda one: one.put_nowait(number)),
            ("put by position", lambda one: one.put(number, False)),
            ("put for a moment", lambda one: one.put(number, timeout=0)),
            ("put a list", lambda one: one.put([number, "x" * number], block=False)),
            ("get", lambda one: one.get_nowait()),
            ("get by position", lambda one: one.get(False)),
            ("get for a moment", lambda one: one.get(True, 0)),
            ("state", lambda one: (one.qsize(), one.empty(), one.full(), max(one.maxsize, 0))),
            ("task_done", lambda one: one.task_done()),
            ("join", lambda one: one.join()),
        ]
    )


@pytest.mark.parametrize("maxsize", [0, 1, 3, -1])
def test_any_operations_give_what_they_give_on_a_queue(maxsize):
    rng = random.Random(maxsize + 100 * world.rank)
    model, mine = queue.Queue(maxsize), own(maxsize)
    for number in range(500):
        what, call = operation(rng, number)
        if what == "join" and model.unfinished_tasks:
            continue  # it would wait
        expected, got = done(call, model), done(call, mine)
        assert type(got) is type(expected) and got == expected, (number, what)
        assert mine.qsize() == model.qsize()


WRONG = {
    "get, negative timeout": lambda one: one.get(timeout=-1),
    "put, negative timeout": lambda one: one.put(1, timeout=-0.5),
    "get, timeout a string": lambda one: one.get(timeout="soon"),
    "too often done": lambda one: one.task_done(),
    "get from nothing": lambda one: one.get(block=False),
    "get from nothing, not waiting": lambda one: one.get(False, -1),
    "get from nothing for a while": lambda one: one.get(timeout=0.01),
    "put into a full one": lambda one: (one.put(1), one.put(2, block=False)),
    "put into a full one for a while": lambda one: (one.put(1), one.put(2, timeout=0.01)),
    "put nothing": lambda one: one.put(),
    "get something": lambda one: one.get(1, 2, 3),
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_the_error_of_queue(call):
    model, mine = queue.Queue(1), own(1)
    expected, error = outcome(lambda: call(model)), outcome(lambda: call(mine))
    assert expected is not None and type(error) is type(expected)
    assert mine.qsize() == model.qsize()
    while mine.qsize():
        mine.get()
        mine.task_done()
    mine.put("x")
    assert mine.get() == "x"


def test_a_timeout_that_is_no_number_is_refused():
    one = own(1)  # queue.Queue waits for ever
    told(outcome(lambda: one.get(timeout=float("nan"))), ValueError, "timeout", "nan")
    told(outcome(lambda: one.put(1, timeout=float("nan"))), ValueError, "timeout", "nan")
    assert one.empty()


def test_a_wait_ends_when_its_time_is_over():
    one = own(1)
    for seconds in (0, 0.02, 0.1):
        begin = time.monotonic()
        assert isinstance(outcome(lambda seconds=seconds: one.get(timeout=seconds)), queue.Empty)
        assert time.monotonic() - begin >= seconds
    one.put(0)
    for seconds in (0, 0.02, 0.1):
        begin = time.monotonic()
        assert isinstance(outcome(lambda seconds=seconds: one.put(1, timeout=seconds)), queue.Full)
        assert time.monotonic() - begin >= seconds
    assert one.get() == 0 and one.empty()


def test_it_tells_about_itself():
    one = own(2)
    assert (one.maxsize, one.qsize(), one.empty(), one.full()) == (2, 0, True, False)
    one.put(1)
    one.put(2)
    assert (one.qsize(), one.empty(), one.full()) == (2, False, True)
    assert isinstance(repr(one), str) and "Queue" in repr(one)
    assert not own().full() and own().maxsize == 0


@several_ranks
def test_ranks_that_ask_for_different_sizes_are_told():
    if node.size > 1:
        told(outcome(lambda: ns.Queue(1 + (node.rank == 0), comm=node)), ns.Mismatch, "Queue(", "maxsize")


@pytest.mark.parametrize("maxsize", ["three", 1.5, None, 2**63, 2**70], ids=repr)
def test_a_size_that_cannot_be_is_refused(maxsize):
    told(outcome(lambda: ns.Queue(maxsize, comm=node)), ns.InvalidArgument, "maxsize", repr(maxsize))


# --- who waits ------------------------------------------------------------------------------------------------------


def test_a_thread_that_waits_for_an_item_gets_it():
    one = own()
    for value in ([1], np.arange(9000)):
        thread, got = started(one.get)
        thread.join(0.02)
        assert not got
        one.put(value)
        thread.join()
        assert np.array_equal(got[0], value)


def test_a_thread_that_waits_for_room_gets_it():
    one = own(1)
    one.put("first")
    thread, got = started(lambda: one.put("second"))
    thread.join(0.02)
    assert not got and one.qsize() == 1
    assert one.get() == "first" and one.get() == "second"
    thread.join()
    assert got == [None]


def test_a_signal_s_handler_may_use_what_is_waited_for():
    one = own()
    before = signal.signal(signal.SIGALRM, lambda *_: one.put("from the handler"))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        assert one.get(timeout=30) == "from the handler"
    finally:
        signal.signal(signal.SIGALRM, before)


def test_several_that_wait_each_get_one():
    one = own()
    waiting = [started(one.get) for _ in range(5)]
    for number in range(5):
        one.put(number)
    for thread, _ in waiting:
        thread.join()
    assert sorted(got[0] for _, got in waiting) == list(range(5)) and one.empty()


def test_join_waits_until_all_is_done():
    one = own()
    one.join()
    for number in range(3):
        one.put(number)
    thread, got = started(one.join)
    for _ in range(3):
        thread.join(0.005)
        assert not got
        one.get()
        assert not got
        one.task_done()
    thread.join()
    assert got == [None]
    assert isinstance(outcome(one.task_done), ValueError)


@several_ranks
def test_join_waits_for_other_ranks():
    one, seen = ns.Queue(comm=node), ns.zeros(100, int, comm=node)
    if node.rank == 0:
        for number in range(100):
            one.put(number)
    node.Barrier()
    if node.rank > 0 or node.size == 1:
        while True:
            try:
                number = one.get_nowait()
            except queue.Empty:
                break
            seen[number] += 1
            one.task_done()
    one.join()
    assert (seen.array == 1).all()
    node.Barrier()


@several_ranks
@pytest.mark.parametrize("value", [1, np.arange(20_000)], ids=["small", "large"])
def test_ping_and_pong_wake_each_other(value):
    there, back = ns.Queue(1, comm=node), ns.Queue(1, comm=node)
    if node.size > 1:
        if node.rank == 0:
            for number in range(200):
                there.put((number, value))
                assert back.get()[0] == number
        elif node.rank == 1:
            for number in range(200):
                got = there.get()
                assert got[0] == number
                back.put(got)
    wait_asleep(node)
    assert there.empty() and back.empty()


# --- many writers and readers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("maxsize", [0, 1, 7])
def test_every_item_arrives_once_and_in_the_order_of_its_writer(maxsize):
    one, found = ns.Queue(maxsize, comm=node), []
    thread, got = started(lambda: [one.put((node.rank, number, np.full(50, number))) for number in range(500)])
    for _ in range(500):
        found.append(one.get())
    thread.join()
    assert len(got[0]) == 500
    assert in_turn(found) and all((array == number).all() for _, number, array in found)
    everything = sorted((writer, number) for some in node.allgather(found) for writer, number, _ in some)
    assert everything == [(writer, number) for writer in range(node.size) for number in range(500)]
    assert one.empty()
    node.Barrier()


@several_ranks
@pytest.mark.parametrize("of_one", ["writer", "reader"])
def test_one_to_many_and_many_to_one(of_one):
    one, times, found = ns.Queue(10, comm=node), 600, []
    if node.size > 1:
        others = list(range(1, node.size))
        writers, readers = ([0], others) if of_one == "writer" else (others, [0])
        if node.rank in writers:
            for number in range(times):
                one.put((node.rank, number))
            for _ in readers:
                one.put(None)
        else:
            ends = 1 if of_one == "writer" else len(writers)
            while ends:
                item = one.get()
                if item is None:
                    ends -= 1
                else:
                    found.append(item)
        assert in_turn(found)
        everything = sorted(itertools.chain(*node.allgather(found)))
        assert everything == [(rank, number) for rank in writers for number in range(times)]
        assert one.empty()


def test_threads_of_all_ranks_put_and_get():
    one, found, lock = ns.Queue(5, comm=node), [], threading.Lock()

    def write(writer):
        for number in range(100):
            one.put((writer, number))

    def read():
        mine = [one.get() for _ in range(100)]
        assert in_turn(mine)
        with lock:
            found.extend(mine)

    threads = [threading.Thread(target=write, args=((node.rank, number),)) for number in range(3)]
    threads += [threading.Thread(target=read) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    everything = sorted(itertools.chain(*node.allgather(found)))
    assert everything == [((rank, t), number) for rank in range(node.size) for t in range(3) for number in range(100)]


@several_ranks
def test_large_arrays_arrive_whole():
    one = ns.Queue(4, comm=node)
    thread, _ = started(lambda: [one.put(np.full(1 << 17, node.rank * 100 + number)) for number in range(30)])
    kept = [one.get() for _ in range(30)]
    thread.join()
    assert all((array == array[0]).all() and not array.flags.writeable for array in kept)
    firsts = sorted(itertools.chain(*node.allgather([int(array[0]) for array in kept])))
    assert firsts == sorted(rank * 100 + number for rank in range(node.size) for number in range(30))


@several_ranks
def test_a_rank_may_be_slow_to_get_and_another_to_put():
    one = ns.Queue(2, comm=node)
    if node.size > 1:
        if node.rank == 0:
            for number in range(20):
                one.put(number)
                if number % 5 == 0:
                    time.sleep(0.002)
        if node.rank == node.size - 1:
            for number in range(20):
                assert one.get() == number
                if number % 7 == 0:
                    time.sleep(0.003)
    node.Barrier()
    assert one.empty()


def test_a_full_capacity_is_an_error_to_who_puts_even_if_there_is_no_maxsize():
    one = ns.Queue(comm=MPI.COMM_SELF, capacity=1 << 20)
    for _ in range(3):
        errors = [outcome(lambda: one.put(np.ones(100_000, "u1"))) for _ in range(12)]
        count = errors.count(None)
        assert 7 <= count <= 10 and one.qsize() == count
        told(errors[-1], ns.OutOfSharedMemory, "Queue", "capacity")
        told(outcome(lambda: one.put_nowait(np.ones(100_000, "u1"))), ns.OutOfSharedMemory, "Queue", "capacity")
        for _ in range(count):
            assert one.get().all()
    assert one.empty()
