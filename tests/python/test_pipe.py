# SPDX-License-Identifier: BSD-3-Clause
"""A Pipe has the two ends of multiprocessing.Pipe: what one sends the other receives, until one is closed."""

import multiprocessing
import pickle
import threading
import time

import numpy as np
import pytest
from mpi4py import MPI
from support import content, leaves_nothing, outcome, same, started, told, wait_asleep, world  # noqa: F401

import nodeshare as ns

pytestmark = pytest.mark.usefixtures("leaves_nothing")

node = ns.topology().node_comm
several_ranks = pytest.mark.ranks(2, 3, 5)
makes = pytest.mark.parametrize("make", [multiprocessing.Pipe, lambda *given: own(*given)], ids=["model", "ours"])


def own(*given):
    """Return the ends of a Pipe of this rank alone."""
    return ns.Pipe(*given, comm=MPI.COMM_SELF)


def ended(call):
    """Return the type of what a call raises."""
    return type(outcome(call))


def echo(end):
    """Send all back, until the other end is closed."""
    while True:
        try:
            end.send(end.recv())
        except EOFError:
            return


# Tests marked `makes` run on multiprocessing's pipe too: what they say is what that does.


@makes
def test_what_is_sent_is_received_in_order(make):
    here, there = make()
    for value in (1, "two", [3], None, {"x": b"4"}):
        here.send(value)
        there.send([value])
    assert [there.recv() for _ in range(5)] == [1, "two", [3], None, {"x": b"4"}]
    assert [here.recv() for _ in range(5)] == [[1], ["two"], [[3]], [None], [{"x": b"4"}]]
    here.close()
    there.close()


@makes
def test_what_an_end_is_for(make):
    for end in make():
        assert end.readable and end.writable and not end.closed
    reads, writes = make(False)
    assert (reads.readable, reads.writable, writes.readable, writes.writable) == (True, False, False, True)
    writes.send("x")
    assert reads.recv() == "x"
    for call in (
        lambda: reads.send(1),
        lambda: reads.send_bytes(b"1"),
        writes.recv,
        writes.recv_bytes,
        writes.poll,
        lambda: writes.recv_bytes_into(bytearray(3)),
    ):
        assert ended(call) is OSError
    writes.send("y")
    assert reads.recv() == "y"
    assert make(duplex=False)[0].writable is False if make is multiprocessing.Pipe else True


@makes
def test_bytes(make):
    here, there = make()
    for sent in (b"", b"abc", bytearray(b"de"), memoryview(b"fgh"), np.arange(3, dtype="u1"), b"x" * 30_000):
        here.send_bytes(sent)
        got = there.recv_bytes()
        assert type(got) is bytes and got == bytes(sent)
    here.send_bytes(np.arange(5, dtype="i4"))
    assert there.recv_bytes() == np.arange(5, dtype="i4").tobytes()
    for given, expected in (
        ((2,), b"cdef"),
        ((2, 3), b"cde"),
        ((6,), b""),
        ((0, 0), b""),
        ((6, 0), b""),
        ((0, None), b"abcdef"),
    ):
        here.send_bytes(b"abcdef", *given)
        assert there.recv_bytes() == expected


@makes
@pytest.mark.parametrize("given", [(-1,), (7,), (0, -1), (0, 7), (3, 4)], ids=repr)
def test_offsets_and_sizes_that_do_not_fit_are_refused(make, given):
    here, there = make()
    assert ended(lambda: here.send_bytes(b"abcdef", *given)) is ValueError
    assert not there.poll()


@makes
def test_what_is_no_buffer_is_refused(make):
    here, there = make()
    for value in (5, "text", None, [1]):
        assert ended(lambda value=value: here.send_bytes(value)) is TypeError
    assert not there.poll()
    for value in (5, "text"):
        assert ended(lambda value=value: there.recv_bytes_into(value)) is TypeError


@makes
def test_bytes_into_a_buffer(make):
    here, there = make()
    into = bytearray(b"-" * 10)
    here.send_bytes(b"abc")
    assert there.recv_bytes_into(into) == 3 and into == b"abc-------"
    here.send_bytes(b"de")
    assert there.recv_bytes_into(into, 8) == 2 and into == b"abc-----de"
    here.send_bytes(b"")
    assert there.recv_bytes_into(into, 10) == 0
    numbers = np.zeros(4, "i4")
    here.send_bytes(np.arange(3, dtype="i4"))
    assert there.recv_bytes_into(numbers, 4) == 12 and numbers.tolist() == [0, 0, 1, 2]
    here.send_bytes(b"next")
    for offset in (-1, 11):
        assert ended(lambda offset=offset: there.recv_bytes_into(into, offset)) is ValueError
    assert there.recv_bytes() == b"next"


@makes
def test_a_buffer_that_is_too_short_leaves_the_message_in_the_error(make):
    here, there = make()
    here.send_bytes(b"abcdef")
    for offset in (0, 2):
        error = outcome(lambda offset=offset: there.recv_bytes_into(bytearray(4), offset))
        assert type(error) is multiprocessing.BufferTooShort and error.args == (b"abcdef",)
        here.send_bytes(b"abcdef")
    assert there.recv_bytes() == b"abcdef"


@makes
def test_more_bytes_than_are_wanted_are_an_error(make):
    here, there = make()
    here.send_bytes(b"abc")
    assert there.recv_bytes(3) == b"abc"
    assert ended(lambda: there.recv_bytes(-1)) is ValueError
    here.send_bytes(b"abcd")
    assert ended(lambda: there.recv_bytes(3)) is OSError


@makes
def test_poll_says_whether_there_is_something(make):
    here, there = make()
    assert there.poll() is False and there.poll(0) is False
    begin = time.monotonic()
    assert there.poll(0.05) is False
    assert time.monotonic() - begin >= 0.05
    here.send(None)
    for timeout in ((), (0.0,), (5,), (None,)):
        assert there.poll(*timeout) is True
    assert there.recv() is None and there.poll() is False


@makes
def test_poll_wakes_when_something_comes(make):
    here, there = make()
    got = []
    for timeout in (30, None):
        thread = threading.Thread(target=lambda timeout=timeout: got.append(there.poll(timeout)))
        thread.start()
        here.send(1)
        thread.join()
        assert there.recv() == 1
    assert got == [True, True]


@makes
def test_an_end_that_is_closed_is_over(make):
    here, there = make()
    here.close()
    here.close()
    assert here.closed and not there.closed
    for call in (
        lambda: here.send(1),
        here.recv,
        here.poll,
        lambda: here.send_bytes(b"1"),
        here.recv_bytes,
        lambda: here.recv_bytes_into(bytearray(3)),
    ):
        assert ended(call) is OSError


@makes
def test_the_other_end_hears_that_one_was_closed_after_all_that_was_sent(make):
    here, there = make()
    here.send(1)
    here.send_bytes(b"2")
    here.close()
    assert there.poll() and there.recv() == 1 and there.recv_bytes() == b"2"
    for call in (there.recv, there.recv_bytes, lambda: there.recv_bytes_into(bytearray(3)), there.recv):
        assert there.poll() and there.poll(None)
        assert ended(call) is EOFError
    assert ended(lambda: there.send(1)) is BrokenPipeError
    assert ended(lambda: there.send_bytes(b"1")) is BrokenPipeError
    there.close()


@makes
def test_a_with_statement_closes_its_end(make):
    here, there = make()
    with here as same_end:
        assert same_end is here
        here.send("x")
    assert here.closed and there.recv() == "x" and ended(there.recv) is EOFError
    with there:
        pass
    assert there.closed


@makes
def test_a_wait_ends_when_the_other_end_is_closed(make):
    here, there = make()
    here.poll()  # an end is closed by who uses it
    thread, got = started(lambda: ended(there.recv))
    thread.join(0.02)
    assert not got
    here.close()
    thread.join()
    assert got == [EOFError]


@makes
def test_a_value_that_does_not_pickle_is_not_sent(make):
    here, there = make()
    error = outcome(lambda: here.send(threading.Lock()))
    assert isinstance(error, TypeError)
    assert not there.poll()
    here.send(1)
    assert there.recv() == 1


def test_an_end_is_no_file():
    here, _ = own()
    assert not hasattr(here, "fileno") or outcome(here.fileno) is not None
    assert isinstance(repr(here), str) and "Pipe" in repr(here)


@pytest.mark.parametrize("shape", [(), (0,), (3,), (300, 200)], ids=str)
def test_arrays_are_views(shape):
    here, there = own()
    for order in "CF":
        expected = content("f8", shape, order=order)
        here.send(expected)
        got = there.recv()
        assert same(got, expected) and not got.flags.writeable
        assert got.flags.f_contiguous == expected.flags.f_contiguous


# --- ranks ----------------------------------------------------------------------------------------------------------


def between(first, second, *given):
    """Collective. Rank 0 of the node works with one end, the last rank with the other; if there is one: in a thread."""
    here, there = ns.Pipe(*given, comm=node)
    if node.size == 1:
        thread, got = started(lambda: second(there))
        first(here)
        thread.join()
        assert got == [None]
    elif node.rank == 0:
        first(here)
    elif node.rank == node.size - 1:
        second(there)
    wait_asleep(node)


@pytest.mark.parametrize(
    "value", [1, "x" * 3000, np.arange(10), np.arange(1 << 17)], ids=["1", "text", "array", "1 MiB"]
)
def test_round_trips(value):
    def first(here):
        for number in range(200):
            here.send((number, value))
            got = here.recv()
            assert got[0] == number and np.array_equal(got[1], value)
        here.close()

    between(first, echo)


def test_many_messages_in_one_direction():
    def write(end):
        for number in range(2000):
            end.send((number, np.full(number % 50, number)))
        end.send_bytes(b"end")
        end.close()

    def read(end):
        for number in range(2000):
            got, array = end.recv()
            assert got == number and array.size == number % 50 and (array == number).all()
        assert end.recv_bytes() == b"end"
        assert ended(end.recv) is EOFError

    between(read, write, False)
    between(write, read)


def test_both_directions_at_once():
    def work(end):
        for number in range(300):
            end.send((number, np.full(500, number)))
        for number in range(300):
            got, array = end.recv()
            assert got == number and (array == number).all()

    between(work, work)


def test_large_arrays_arrive_whole_and_stay():
    def write(end):
        for number in range(20):
            end.send(np.full(1 << 18, number))

    def read(end):
        kept = [end.recv() for _ in range(20)]
        assert all((array == number).all() and not array.flags.writeable for number, array in enumerate(kept))

    between(write, read)


def test_bytes_between_ranks():
    def first(end):
        for size in (0, 1, 100, 70_000, 1 << 20):
            end.send_bytes(bytes([size % 251]) * size)
            assert end.recv_bytes() == bytes([size % 251]) * size
        end.close()

    def second(end):
        into = bytearray(1 << 20)
        for size in (0, 1, 100, 70_000, 1 << 20):
            assert end.recv_bytes_into(into) == size
            end.send_bytes(into, 0, size)
        assert ended(end.recv_bytes) is EOFError

    between(first, second)


@several_ranks
def test_ends_that_are_dropped_unused_take_nothing_along():
    here, there = ns.Pipe(comm=node)
    if node.rank == 0:
        del there
    elif node.rank == node.size - 1:
        del here
    else:
        del here, there
    wait_asleep(node)
    if node.size > 1:
        if node.rank == 0:
            here.send("x")
            assert here.recv() == "y"
        elif node.rank == node.size - 1:
            assert there.recv() == "x"
            there.send("y")
    wait_asleep(node)


def test_who_sends_waits_while_much_lies_unread():
    here, there = ns.Pipe(comm=MPI.COMM_SELF, capacity=1 << 20)
    thread, got = started(lambda: [here.send(np.full(50_000, number, "u1")) for number in range(100)])
    thread.join(0.05)
    assert not got
    assert [there.recv()[0] for _ in range(100)] == [*range(100)]
    thread.join()
    assert len(got[0]) == 100


def test_what_has_no_room_beside_what_lies_unread_waits_until_that_was_received():
    here, there = ns.Pipe(comm=MPI.COMM_SELF, capacity=1 << 20)
    thread, got = started(lambda: [here.send_bytes(bytes([number]) * 600_000) for number in range(20)])
    thread.join(0.05)
    assert not got
    for number in range(20):
        assert there.recv_bytes() == bytes([number]) * 600_000
    thread.join()
    assert got == [[None] * 20]


@pytest.mark.slow  # who keeps it gets a second to let it go
def test_what_has_no_room_beside_what_was_received_and_is_kept_is_an_error_to_who_sends():
    here, there = ns.Pipe(comm=MPI.COMM_SELF, capacity=1 << 20)
    here.send(np.full(600_000, 1, "u1"))
    kept = there.recv()
    told(outcome(lambda: here.send(np.full(600_000, 2, "u1"))), ns.OutOfSharedMemory, "Pipe", "views")
    assert not there.poll() and (kept == 1).all()
    del kept
    here.send(np.full(600_000, 3, "u1"))
    assert (there.recv() == 3).all()


def test_what_is_larger_than_its_capacity_is_an_error_to_who_sends():
    here, there = ns.Pipe(comm=MPI.COMM_SELF, capacity=1 << 20)
    for _ in range(3):
        told(outcome(lambda: here.send(np.ones(1 << 20, "u1"))), ns.OutOfSharedMemory, "Pipe", "capacity")
        told(outcome(lambda: here.send_bytes(bytes(1 << 20))), ns.OutOfSharedMemory, "Pipe", "capacity")
        assert not there.poll()
        here.send("x")
        assert there.recv() == "x"


# --- children -------------------------------------------------------------------------------------------------------


@pytest.mark.ranks(1, 2)
@makes
def test_a_forked_child_answers_and_its_end_is_closed_with_it(make):
    here, there = make()
    child = multiprocessing.get_context("fork").Process(target=answer, args=(there,))
    child.start()
    if make is multiprocessing.Pipe:
        there.close()  # the parent's copy, which is what keeps that pipe open
    for number in range(50):
        here.send(np.full(3000, number))
        assert (here.recv() == number + 1).all()
    here.send(None)
    assert ended(here.recv) is EOFError
    child.join()
    assert ended(lambda: here.send(1)) is BrokenPipeError


@pytest.mark.ranks(1, 2)
def test_children_may_use_an_end_one_after_another():
    here, there = own()
    context = multiprocessing.get_context("fork")
    for number in range(3):
        begun = context.Event()
        child = context.Process(target=begin_and_answer, args=(there, begun))
        child.start()
        assert begun.wait(30)
        assert here.recv() == "begins"
        here.send(number)
        assert here.recv() == number + 1
        here.send(None)
        child.join()
        assert ended(here.recv) is EOFError and ended(lambda: here.send(1)) is BrokenPipeError


def begin_and_answer(end, begun):
    end.send("begins")  # from now on the end is used again
    begun.set()
    answer(end)


def answer(end):
    while (got := end.recv()) is not None:
        end.send(got + 1)


@pytest.mark.ranks(1)
def test_a_pickle_of_an_end_is_that_end():
    here, there = own()
    again = pickle.loads(pickle.dumps(there))
    here.send("x")
    assert again.recv() == "x"
    again.send("y")
    assert here.recv() == "y"
