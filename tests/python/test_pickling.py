# SPDX-License-Identifier: BSD-3-Clause
"""Handles in pickles: the same memory where it can be had, else a clear error."""

import copyreg
import io
import multiprocessing
import operator
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest
from mpi4py import MPI
from support import DTYPES, LAST, address, alive, content, leaves_nothing, outcome, same, told, world  # noqa: F401

import nodeshare as ns

pytestmark = pytest.mark.usefixtures("leaves_nothing")


def own(values, **options):
    """Return an array of this rank alone, whose memory any process of the user can have."""
    return ns.array(values, comm=MPI.COMM_SELF, **options)


def kind_of(a):
    """Return the kind of memory of an array."""
    (kind,) = {one.kind for one in ns.memory().arrays if one.nbytes == a.nbytes}
    return kind


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_rank_gets_its_own_memory_back(protocol):
    a = ns.zeros((4, 3), "f4", order="F")
    b = pickle.loads(pickle.dumps(a, protocol))
    assert address(b.array) == address(a.array)
    assert (b.shape, b.dtype, b.order, b.topology) == (a.shape, a.dtype, a.order, a.topology)
    assert b.array.strides == a.array.strides
    b.bcast()


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_dtype_comes_back(dtype):
    a = own(content(dtype, (3, 2)))
    assert same(pickle.loads(pickle.dumps(a)).array, content(dtype, (3, 2)))


@pytest.mark.parametrize("writable", [False, True])
def test_read_only_stays_read_only(writable):
    a = ns.array([1, 2, 3], writable=writable)
    assert pickle.loads(pickle.dumps(a)).array.flags.writeable == writable


def test_a_pickle_holds_a_name_and_no_data():
    assert len(pickle.dumps(ns.zeros(100_000))) < 2000


def test_the_ranks_of_the_node_get_their_own_mapping():
    t = ns.topology()
    a, other = ns.zeros(t.size, int), ns.zeros(t.size, int)
    b = t.node_comm.bcast(a if t.is_leader else None)
    b.array[t.rank] = t.rank + 1
    b.sync()
    assert address(b.array) == address(a.array) != address(other.array)
    assert [a[rank] for rank in t.ranks_on(t.node)] == [rank + 1 for rank in t.ranks_on(t.node)]
    assert not other.array.any()


def test_handles_in_the_ranks_messages_of_every_array():
    t = ns.topology()
    arrays = [ns.full(3, number) for number in range(5)]
    got = t.node_comm.bcast(arrays[::-1], root=t.node_size - 1)
    assert [address(a.array) for a in got] == [address(a.array) for a in arrays[::-1]]


def test_another_node_gets_the_node_s_memory_or_a_clear_error_but_never_its_own():
    t = ns.topology()
    a = ns.zeros(3, int)
    a.local[...] = t.node
    a.sync()
    raw = world.bcast(pickle.dumps(a) if world.rank == 0 else None)
    got = []
    error = outcome(lambda: got.append(pickle.loads(raw)))
    kind = world.bcast(kind_of(a))
    same_host = MPI.Get_processor_name() == world.bcast(MPI.Get_processor_name())
    if t.node == 0:
        assert address(got[0].array) == address(a.array)
    elif kind == "memfd" and same_host:
        assert got[0].array.tolist() == [0, 0, 0] and address(got[0].array) != address(a.array)
    else:
        told(error, ns.Error)
    world.Barrier()


def test_a_rank_that_has_let_go_does_not_get_a_window_back():
    a = ns.zeros(1000, "i2")
    kind, raw, id_of_a = kind_of(a), pickle.dumps(a), a.nbytes
    world.Barrier()
    del a
    b = ns.zeros(1000, "i2")  # likely at the same address
    got = []
    error = outcome(lambda: got.append(pickle.loads(raw)))
    world.Barrier()
    if kind != "memfd":
        told(error, ns.Error, "let go", "NODESHARE_MEMORY=memfd")
    else:
        told(error, ns.Error, "attach")
    assert b.nbytes == id_of_a


def test_a_closed_handle_is_not_pickled():
    a = own([1, 2])
    a.close()
    told(outcome(lambda: pickle.dumps(a)), ns.Error, "closed")


def python(code, raw, **env):
    """Run code in another process, which is no rank and finds the pickle on its standard input."""
    program = "import pickle, sys, nodeshare as ns\n" + code
    return subprocess.run([sys.executable, "-c", program], input=raw, capture_output=True, env={**os.environ, **env})


@pytest.mark.ranks(1, 3)
def test_another_process_attaches_to_a_memfd_and_both_see_writes():
    if world.rank == 0:
        a = own([1.5, 2.5, 3.5], writable=True)
        run = python("a = pickle.load(sys.stdin.buffer); print(a.array.tolist()); a[1] = -7", pickle.dumps(a))
        assert (run.stdout, run.stderr) == (b"[1.5, 2.5, 3.5]\n", b"")
        assert a.array.tolist() == [1.5, -7, 3.5]


@pytest.mark.ranks(1, 3)
def test_another_process_has_no_ranks_to_work_with_and_can_still_use_it():
    code = """
a = pickle.load(sys.stdin.buffer)
for call in (a.sync, a.bcast, a.allgather, lambda: a.set(1), lambda: a.topology, lambda: a.local, lambda: a.rows()):
    try:
        call()
    except ns.Error as error:
        assert "another process" in str(error), error
    else:
        raise AssertionError(call)
assert a.array.sum() == 6 and not a.array.flags.writeable and "1 node" in repr(a) and ns.is_shared(a.array)
b = pickle.loads(pickle.dumps(a))
assert b.array.sum() == 6
a.close()
assert b.array.sum() == 6
print("good")
"""
    if world.rank == 0:
        a = own([1, 2, 3])
        run = python(code, pickle.dumps(a))
        assert (run.stdout, run.stderr.decode()) == (b"good\n", "")


@pytest.mark.ranks(2, 3)
def test_another_process_gets_an_array_of_many_ranks_only_from_a_memfd():
    a = ns.array([1, 2, 3])
    kind = kind_of(a)
    if world.rank == 0:
        error = outcome(lambda: pickle.dumps(a))
        assert error is None  # other ranks may have it
        run = python("print(pickle.load(sys.stdin.buffer).array.tolist())", pickle.dumps(a))
        if kind == "memfd":
            assert (run.stdout, run.stderr) == (b"[1, 2, 3]\n", b"")
        else:
            assert b"nodeshare.error.Error" in run.stderr and b"NODESHARE_MEMORY=memfd" in run.stderr
    world.Barrier()


@pytest.mark.ranks(1, 3)
def test_memory_that_was_dropped_before_it_was_attached_is_an_error():
    if world.rank == 0:
        raw = pickle.dumps(own(np.arange(1000)))
        run = python("pickle.load(sys.stdin.buffer)", raw)
        assert b"nodeshare.error.Error" in run.stderr and b"alive" in run.stderr


@pytest.mark.ranks(1, 3)
@pytest.mark.parametrize("method", ["spawn", "forkserver", "fork"])
def test_multiprocessing_children_see_and_write_the_memory(method):
    if world.rank == 0:
        a = own([1.0, 2.0, 3.0], writable=True)
        child = multiprocessing.get_context(method).Process(target=operator.setitem, args=(a, 1, 7.0))
        child.start()
        child.join()
        assert child.exitcode == 0 and a.array.tolist() == [1, 7, 3]


def test_a_forked_child_and_its_parent_see_each_other_s_writes():
    a = ns.zeros((world.size, 2), int)
    mine = a.array[world.rank]
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.read(read, 1)
        again = pickle.loads(pickle.dumps(a))
        good = mine[0] == world.rank + 1 and again.array[world.rank, 0] == world.rank + 1
        again.array[world.rank, 1] = -1
        del again
        os._exit(0 if good else 1)
    mine[0] = world.rank + 1
    os.write(write, b"x")
    code = os.waitpid(child, 0)[1]
    os.close(read), os.close(write)
    a.sync()
    assert code == 0 and mine.tolist() == [world.rank + 1, -1]


def test_attaching_leaves_nothing_when_dropped():
    t = ns.topology()
    before = alive()
    a = own(np.arange(5)) if t.is_leader else None
    raw = t.node_comm.bcast(pickle.dumps(a) if t.is_leader else None)
    if not t.is_leader:
        b = pickle.loads(raw)  # alone on the leader: attached by its descriptor
        assert b.array.tolist() == [0, 1, 2, 3, 4]
        told(outcome(b.sync), ns.Error, "another process")
        del b
    t.node_comm.Barrier()
    del a
    assert alive() == before


def test_a_pickle_of_another_life_is_an_error_and_never_a_guess():
    a = own([1, 2, 3])
    attach, (place, descriptor, why, *rest) = a.__reduce__()
    pid, file, start, device, inode, nbytes = descriptor
    for wrong in (
        (pid, file, start + 1, device, inode, nbytes),
        (pid, file, start, device, inode + 1, nbytes),
        (pid, 10**6, start, device, inode, nbytes),
        (2**22 + 1, file, start, device, inode, nbytes),
    ):
        told(outcome(lambda wrong=wrong: attach((None, 0, 0), wrong, why, *rest)), ns.Error, "attach")
    assert attach((None, 0, 0), descriptor, why, *rest).array.tolist() == [1, 2, 3]


def test_views_pickle_as_numpy_s_by_value():
    a = own([1, 2, 3])
    b = pickle.loads(pickle.dumps(a.array))
    assert type(b) is np.ndarray and not ns.is_shared(b) and b.tolist() == [1, 2, 3]


def test_a_topology_or_a_work_is_not_pickled_silently():
    hours = ns.work(3)
    for thing in (ns.topology(), hours):
        error = outcome(lambda thing=thing: pickle.loads(pickle.dumps(thing)))
        assert isinstance(error, (TypeError, ns.Error, pickle.PicklingError))


def test_one_handle_twice_in_a_pickle_is_one():
    a = own([1, 2])
    x, y = pickle.loads(pickle.dumps([a, a]))
    assert x is y


def test_a_pickler_with_a_table_of_its_own_still_finds_reduce():
    class Own(pickle.Pickler):
        dispatch_table = copyreg.dispatch_table.copy()

    out, a = io.BytesIO(), own([4, 5])
    Own(out).dump(a)
    assert pickle.loads(out.getvalue()).array.tolist() == [4, 5] and LAST >= 0
