# SPDX-License-Identifier: BSD-3-Clause
"""The handle: what it is, who may write through it, whose rows are whose, and the way back from a view."""

import mmap
import os

import numpy as np
import pytest
from support import LAST, address, one_failed, outcome, own, same, told, world

import nodeshare as ns


def test_a_handle_tells_what_it_is_in_numpy_s_words():
    a = ns.zeros((4, 3), "f4", order="F")
    assert (a.shape, a.dtype, a.ndim, a.size, a.nbytes, a.order) == ((4, 3), np.dtype("f4"), 2, 12, 48, "F")
    assert a.topology == ns.topology()
    assert type(a.array) is np.ndarray


def test_array_is_the_same_object_each_time():
    a = ns.zeros(3)
    assert a.array is a.array
    assert ns.handle(a) is a


WAYS = {
    "array": lambda a: a.array,
    "asarray": np.asarray,
    "slice": lambda a: a[1:],
    "other type": lambda a: a.array.view("u1"),
    "local": lambda a: a.part(0),
    "memoryview": lambda a: np.asarray(memoryview(a)),
    "handle": lambda a: ns.handle(a.array[1:]).array,
}


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS.keys())
def test_an_input_cannot_be_made_writable_again(way):
    a = ns.array(np.arange(4.0))
    view = way(a)
    assert not view.flags.writeable
    assert isinstance(outcome(lambda: view.setflags(write=True)), ValueError)
    base = view.base
    while isinstance(base, np.ndarray):
        assert isinstance(outcome(lambda base=base: base.setflags(write=True)), ValueError)
        base = base.base


def test_writing_to_an_input_is_an_error():
    a = ns.array([1, 2, 3])
    for write in (
        lambda: a.__setitem__(0, 7),
        lambda: a.array.fill(7),
        lambda: a.local.fill(7),
        lambda: np.add(a, 1, out=a),
        lambda: np.copyto(a.array, 7),
    ):
        assert isinstance(outcome(write), ValueError)
    assert a.array.tolist() == [1, 2, 3]


def test_what_was_written_before_sync_is_seen_after_it():
    t = ns.topology()
    mine, a, wrong = t.ranks_on(t.node), ns.zeros(t.size, int), []
    for step in range(300):
        a[t.rank] = step
        a.sync()
        if any(a[rank] != step for rank in mine):
            wrong.append(step)
        a.sync()
    assert not wrong


def test_freeze_and_thaw_give_new_views_and_leave_old_ones():
    a = ns.zeros(3)
    before = a.array
    a.freeze()
    frozen = a.array
    assert (before.flags.writeable, frozen.flags.writeable) == (True, False)
    a.thaw()
    assert a.array.flags.writeable and not frozen.flags.writeable
    assert address(before) == address(frozen) == address(a.array)


def test_an_input_can_be_thawed():
    a = ns.array([1.0, 2.0])
    a.thaw()
    with a.writing(root=0) as w:
        if w is not None:
            w[0] = 5
    assert a.array.tolist() == [5, 2]


@pytest.mark.parametrize("protect", [False, True])
def test_freezing_concerns_this_rank_only(protect):
    a = ns.zeros(world.size)
    if world.rank == 0:
        a.freeze(protect)
    a.sync()
    assert a.array.flags.writeable == (world.rank != 0)
    if world.rank != 0:
        a[world.rank] = world.rank
    a.sync()
    written = [a[rank] for rank in a.topology.ranks_on(a.topology.node)]
    a.sync()
    a.thaw()
    a[0] = 7
    a.sync()
    assert (written, a[0]) == (a.topology.ranks_on(a.topology.node), 7)


def ends_by_signal(write):
    """Whether a forked child that writes is killed."""
    child = os.fork()
    if child == 0:
        os.close(2)
        write()
        os._exit(0)
    return os.WIFSIGNALED(os.waitpid(child, 0)[1])


def test_protected_pages_catch_writes_through_old_views_until_thawed():
    a = own(np.zeros(3))
    before = a.array
    a.freeze(protect=True)
    killed = ends_by_signal(lambda: before.fill(1))
    a.thaw()
    before[0] = 2
    assert killed and a[0] == 2


def test_another_handle_of_protected_pages_is_read_only_and_can_be_thawed():
    a = own(np.zeros(3))
    a.freeze(protect=True)
    other = ns.handle(a.array)
    assert not other.array.flags.writeable
    other.thaw()
    assert not ends_by_signal(lambda: other.array.fill(1))


def allgather_of_work(a):
    rows = ns.work(len(a))
    for _ in rows:
        pass
    a.allgather(rows)


def by_root(a):
    with ns.together(a, root=0):
        pass


WRITING = {
    "bcast": lambda a: a.bcast(),
    "allgather": lambda a: a.allgather(),
    "allgather of work": allgather_of_work,
    "set": lambda a: a.set(1),
    "allreduce": lambda a: a.allreduce(np.ones(a.shape)),
    "allreduce_copies": lambda a: a.allreduce_copies(),
    "together": by_root,
}


@pytest.mark.parametrize("call", WRITING.values(), ids=WRITING.keys())
def test_collective_calls_that_write_refuse_pages_that_one_rank_has_protected(call):
    a = ns.ones(2 * world.size)
    before = ns.handle(a.array)
    if world.rank == LAST:
        a.freeze(protect=True)
    for handle in (a, before):
        one_failed(outcome(lambda handle=handle: call(handle)), LAST, ns.InvalidArgument, "protected", "thaw()")
    a.thaw()
    call(before)
    assert (a.array >= 1).all()


# --- whose rows -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("n", [0, 1, 2, 7, 100])
def test_the_parts_of_a_node_s_ranks_make_up_the_array(n, order):
    a = ns.zeros((n, 3), order=order)
    t = a.topology
    for node in range(t.nodes):
        ranks = t.ranks_on(node)
        assert [a.rows(rank) for rank in ranks] == [
            (number * n // len(ranks), (number + 1) * n // len(ranks)) for number in range(len(ranks))
        ]
    assert a.rows() == a.rows(t.rank)
    for rank in range(t.size):
        start, stop = a.rows(rank)
        assert a.part(rank).shape == (stop - start, 3) and np.shares_memory(a.part(rank), a.array) == (stop > start)
        assert stop == start or address(a.part(rank)) == address(a.array[start:])
    assert same(a.local, a.part(t.rank)) and a.local.strides == a.array.strides


def test_a_0_d_array_is_one_row_of_the_first_rank():
    a = ns.zeros(())
    t = a.topology
    first = [t.ranks_on(t.node_of(rank))[0] == rank for rank in range(t.size)]
    assert [a.rows(rank) for rank in range(t.size)] == [(0, 1) if is_first else (0, 0) for is_first in first]
    assert a.local.shape == (1,) if t.is_leader else (0,)


def test_no_such_rank_has_rows():
    a = ns.zeros(3)
    for rank in (-1, world.size):
        told(outcome(lambda rank=rank: a.rows(rank)), ns.InvalidArgument, rank)
        told(outcome(lambda rank=rank: a.part(rank)), ns.InvalidArgument, rank)


# --- finding the handle ---------------------------------------------------------------------------------------------

VIEWS = {
    "whole": lambda x: x,
    "slice": lambda x: x[2:5, 1:],
    "transposed": lambda x: x.T,
    "reversed": lambda x: x[::-1, ::-1],
    "element": lambda x: x[5:6, 3:4],
    "other type": lambda x: x.T.view("u1"),
    "reshaped": lambda x: x.reshape(-1, order="F")[7:],
    "memoryview": lambda x: memoryview(x),
    "broadcast": lambda x: np.broadcast_to(x[0], (3, 4)),
}


@pytest.mark.parametrize("view", VIEWS.values(), ids=VIEWS.keys())
def test_a_view_leads_back_to_the_whole_array(view):
    before, a, after = ns.zeros(512), ns.zeros((6, 4), order="F"), ns.zeros(512)
    found = ns.handle(view(a.array))
    assert (found.shape, found.dtype, found.order, found.topology) == (a.shape, a.dtype, a.order, a.topology)
    assert address(found.array) == address(a.array) not in (address(before.array), address(after.array))
    assert ns.is_shared(view(a.array)) and ns.is_shared(a)
    found.sync()  # is the same to the ranks, whichever handle they use


def test_an_empty_view_never_leads_to_another_array():
    arrays = [ns.zeros(mmap.PAGESIZE // 8) for _ in range(4)]
    for a in arrays:
        end = a.array[a.size :]
        error = outcome(lambda end=end: ns.handle(end))
        assert told(error, ns.InvalidArgument) if error else address(ns.handle(end).array) == address(a.array)


def test_a_handle_made_anew_works_after_the_first_is_gone():
    a = ns.zeros(world.size, int)
    view = a.array[1:]
    del a
    again = ns.handle(view)
    again.array[...] = world.size
    again.sync()
    again.bcast(root=world.size - 1)
    assert again.array.tolist() == [world.size] * world.size


@pytest.mark.parametrize("other", [np.zeros(3), np.zeros(0), [1, 2], b"abc", "text", 3, None, np.float64(2)], ids=repr)
def test_what_lies_elsewhere_is_not_shared(other):
    assert not ns.is_shared(other)
    told(outcome(lambda: ns.handle(other)), ns.InvalidArgument, type(other).__name__)
