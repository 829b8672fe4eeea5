# SPDX-License-Identifier: BSD-3-Clause
"""What List, Dict, Queue and Pipe have in common: any value, views that stay, memory that does not grow."""

import copy
import gc
import itertools
import multiprocessing
import operator
import os
import pickle
import threading
from dataclasses import dataclass, field

import numpy as np
import pytest
from mpi4py import MPI
from support import (  # noqa: F401
    DTYPES,
    LAST,
    alive,
    content,
    leaves_nothing,
    outcome,
    private_bytes,
    same,
    told,
    world,
)

import nodeshare as ns

pytestmark = pytest.mark.usefixtures("leaves_nothing")

node = ns.topology().node_comm  # where they may be made
several_ranks = pytest.mark.ranks(2, 3, 5)
here = f"on {ns.topology().host}"
NAMES = ["List", "Dict", "Queue", "Pipe"]
kinds = pytest.mark.parametrize("name", NAMES)


class Box:
    """A container with one interface for all four: what is put in is what is taken out."""

    def __init__(self, name, comm=MPI.COMM_SELF, **options):
        made = getattr(ns, name)(comm=comm, **options)
        self.ends = made if name == "Pipe" else (made, made)
        self.container, self.name = self.ends[0], name

    def put(self, value):
        first = self.ends[0]
        if self.name == "List":
            first.append(value)
        elif self.name == "Dict":
            first["x"] = value
        elif self.name == "Queue":
            first.put(value, timeout=30)
        else:
            first.send(value)

    def take(self):
        last = self.ends[1]
        if self.name in ("List", "Dict"):
            return last.pop(*["x"] * (self.name == "Dict"))
        return last.get(timeout=30) if self.name == "Queue" else last.recv()

    def through(self, value):
        self.put(value)
        return self.take()

    def usage(self):
        return self.container.usage()

    def all_but_free(self):
        """Return what of the usage is the same again when what was put in is gone."""
        gc.collect()
        return {key: value for key, value in self.usage().items() if key in ("used", "blocks", "views")}


def fill(box, value):
    """Put a value in again and again, until there is no room; return how often, and the error."""
    for count in range(10_000):
        if box.name == "Dict":
            error = outcome(lambda count=count: operator.setitem(box.container, count, value))
        else:
            error = outcome(lambda: box.put(value))
        if error is not None:
            return count, error
    raise AssertionError("it takes more than it has room for")


def lies_in(memory, array):
    """Whether an array is a view of some shared memory."""
    begin = array.__array_interface__["data"][0]
    return any(one.address <= begin and begin + array.nbytes <= one.address + one.nbytes for one in memory)


def is_view(array):
    """Whether an array is a read-only view of shared memory, aligned for any type."""
    aligned = array.__array_interface__["data"][0] % 64 == 0
    return not array.flags.writeable and aligned and lies_in(ns._core.segments(), array)


# --- values ---------------------------------------------------------------------------------------------------------


@dataclass
class Table:
    """As users write them."""

    values: np.ndarray
    names: list = field(default_factory=list)


PLAIN = [
    None,
    True,
    -(2**100),
    0.1,
    float("-inf"),
    1j,
    "",
    "ü" * 70_000,
    b"",
    bytes(300_000),
    bytearray(b"abc"),
    (),
    [1, [2, (3, {4})]],
    {"a": {1: None}},
    range(7),
    slice(1, None),
    Ellipsis,
    int,
    np.dtype("i4, f8"),
    np.float64(3),
    np.datetime64("2020-01-01"),
    OSError(2, "no"),
]


@kinds
def test_any_value_that_pickles_comes_back(name):
    box = Box(name)
    for value in PLAIN:
        got = box.through(value)
        assert type(got) is type(value) and repr(got) == repr(value)
    nan = box.through(float("nan"))
    assert nan != nan


@kinds
def test_arrays_of_every_type_come_back_read_only(name):
    box = Box(name)
    for dtype in (param.values[0] for param in DTYPES):
        for shape, order in itertools.product(((7, 3), (), (0,), (2, 0, 3), (1,)), "CF"):
            expected = content(dtype, shape, order=order)
            got = box.through(expected)
            assert type(got) is np.ndarray and same(got, expected), (dtype, shape, order)
            assert got.flags.f_contiguous == expected.flags.f_contiguous
            assert not got.flags.writeable
            assert isinstance(outcome(lambda got=got: got.setflags(write=True)), ValueError)


@kinds
def test_large_arrays_are_views(name):
    box = Box(name)
    for expected in (
        content("f8", (300, 500)),
        content("f8", (300, 500), order="F"),
        content(">u2", 200_000)[1:],
        content("M8[s]", 200_000),
    ):
        got = box.through(expected)
        assert same(got, expected) and is_view(got)
        assert got.flags.f_contiguous == expected.flags.f_contiguous


@kinds
def test_arrays_with_steps_come_back(name):
    box = Box(name)
    for cut in (slice(None, None, 2), (slice(None), slice(1, 40)), slice(None, None, -1), np.newaxis):
        expected = content("f8", (200, 300))[cut]
        assert same(box.through(expected), expected)
    assert same(box.through(np.broadcast_to(np.float32(3), (50, 60))), np.full((50, 60), 3, "f4"))


@kinds
def test_subclasses_instances_and_buffers_of_other_kinds_come_back(name):
    box = Box(name)
    masked = box.through(np.ma.masked_greater(content("f8", 90_000), 3))
    assert type(masked) is np.ma.MaskedArray and (masked == np.ma.masked_greater(content("f8", 90_000), 3)).all()
    record = box.through(np.rec.array([(1, 2.0)] * 50_000, dtype=[("a", "i4"), ("b", "f8")]))
    assert type(record) is np.recarray and (record.b == 2).all() and record.a.sum() == 50_000
    table = box.through(Table(content("f4", (9000, 2)), ["x", "y"]))
    assert type(table) is Table and table.names == ["x", "y"] and same(table.values, content("f4", (9000, 2)))
    objects = box.through(np.array([{}, "a", None, 1], object))
    assert objects.tolist() == [{}, "a", None, 1]
    buffer = box.through(pickle.PickleBuffer(bytearray(b"some bytes" * 9000)))
    assert bytes(buffer) == b"some bytes" * 9000
    one = content("f8", 70_000)
    first, second = box.through([one, one])
    assert first is second and same(first, one)


@kinds
def test_data_frames_come_back(name):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(
        {"x": np.arange(4.0), "s": list("abcd"), "n": range(4)}, pandas.date_range("2020-02-28", periods=4, tz="UTC")
    )
    box = Box(name)
    got = box.through(frame)
    pandas.testing.assert_frame_equal(got, frame)
    assert got.groupby("s").x.sum().tolist() == [0, 1, 2, 3]
    large = box.through(pandas.DataFrame({"x": np.arange(1e5), "y": np.arange(1e5)}))
    assert large.x.sum() == 99_999 * 50_000 and lies_in(ns._core.segments(), large["x"].to_numpy())


@kinds
def test_sparse_matrices_come_back(name):
    sparse = pytest.importorskip("scipy.sparse")
    box = Box(name)
    for kind in ("csr", "csc", "coo", "lil"):
        expected = sparse.random(300, 200, 0.2, random_state=1).asformat(kind)
        got = box.through(expected)
        assert got.format == kind and (got.toarray() == expected.toarray()).all()
        assert np.allclose(got @ np.ones(200), expected @ np.ones(200))


@kinds
def test_a_value_that_refers_to_itself_comes_back_so(name):
    box = Box(name)
    circle = [content("f8", 9000)]
    circle.append(circle)
    table = {"me": None}
    table["me"] = table
    for _ in range(50):
        got = box.through(circle)
        assert got[1] is got and same(got[0], circle[0])
        assert box.through(table)["me"]["me"]["me"] is not None
    circle.clear()
    table.clear()


@kinds
def test_a_container_goes_into_a_container(name):
    box, inner = Box(name), ns.List([1, 2], comm=MPI.COMM_SELF)
    got = box.through({"inner": inner})["inner"]
    got.append(3)
    assert list(inner) == [1, 2, 3]
    box.put(box.container)
    assert isinstance(repr(box.container), str)
    box.take()


class Puts:
    """Uses the container while it is pickled, and while it is unpickled."""

    box = None

    def __reduce__(self):
        Puts.box.through("inner")
        return Puts.again, ()

    @staticmethod
    def again():
        Puts.box.through("inner")
        return "outer"


def test_a_value_may_use_the_container_while_it_is_pickled_and_unpickled():
    for name in NAMES:
        Puts.box = Box(name)
        assert Puts.box.through(Puts()) == "outer"
    Puts.box = None


class Raises:
    def __init__(self, when):
        self.when = when
        self.data = np.ones(50_000)

    def __reduce__(self):
        if self.when == "pickled":
            raise ZeroDivisionError("when pickled")
        return Raises.unpickled, (self.data,)

    @staticmethod
    def unpickled(data):
        raise ZeroDivisionError("when unpickled")


def deep():
    out = []
    for _ in range(100_000):
        out = [out]
    return out


def dismantle(value):
    """Take it apart from outside, as the interpreter's stack would not do for all."""
    while value:
        value = value.pop()


UNPICKLABLE = [
    lambda: 0,
    (i for i in ()),
    threading.Lock(),
    Raises("pickled"),
    [np.ones(50_000), threading.Lock()],
    os,
]


@kinds
def test_a_value_that_does_not_pickle_is_pickle_s_error_and_leaves_the_container_as_it_was(name):
    box = Box(name)
    box.put("before")
    before = box.all_but_free()
    for value in UNPICKLABLE:
        expected = outcome(lambda value=value: pickle.dumps(value, 5))
        for _ in range(20):
            assert type(outcome(lambda value=value: box.put(value))) is type(expected)
    assert box.all_but_free() == before
    assert box.take() == "before"
    assert box.through([1]) == [1]


@kinds
def test_a_value_nested_too_deeply_is_an_error_and_leaves_the_container_as_it_was(name):
    box, value = Box(name), deep()
    before = box.all_but_free()
    assert isinstance(outcome(lambda: box.put(value)), RecursionError)
    assert box.all_but_free() == before
    assert box.through([1]) == [1]
    dismantle(value)


@kinds
def test_a_value_that_does_not_unpickle_is_its_error_and_the_container_goes_on(name):
    box = Box(name)
    before = box.all_but_free()
    for _ in range(3):
        box.put(Raises("unpickled"))
        told(outcome(box.take), ZeroDivisionError, "when unpickled")
    if name in ("List", "Dict"):
        box.container.clear()
    assert box.through([1]) == [1]
    if name != "Dict":
        assert box.all_but_free()["views"] == before["views"]


# --- views ----------------------------------------------------------------------------------------------------------


def others_come_and_go(box):
    """Use all the memory that is free, several times."""
    for number in range(4):
        value = np.full(20_000, number, "u1")
        if box.name == "Pipe":  # where who sends waits when a quarter is in use
            for _ in range(10):
                box.put(value)
            for _ in range(10):
                box.take()
            continue
        count, _ = fill(box, value)
        for _ in range(count):
            box.take() if box.name != "Dict" else box.container.popitem()


@kinds
def test_views_stay_as_they_are_when_their_entry_is_taken_out_and_its_memory_would_be_needed(name):
    box = Box(name, capacity=1 << 20)
    views = [box.through(content("f8", 5000, seed)) for seed in range(5)]
    others_come_and_go(box)
    assert all(same(view, content("f8", 5000, seed)) and not view.flags.writeable for seed, view in enumerate(views))
    part, whole = views[0][100:200], views[0]
    del views, whole
    others_come_and_go(box)
    assert same(part, content("f8", 5000)[100:200])


@kinds
def test_views_outlive_the_container(name):
    box = Box(name)
    view = box.through(content("f8", (50, 100)))
    del box
    gc.collect()
    others = Box(name)
    others.through(np.zeros(50_000))
    assert same(view, content("f8", (50, 100))) and is_view(view)


def test_views_of_entries_that_are_replaced_stay():
    lst, table = ns.List([0], comm=MPI.COMM_SELF), ns.Dict({"x": 0}, comm=MPI.COMM_SELF)
    views = []
    for seed in range(20):
        lst[0] = table["x"] = content("f8", 3000, seed)
        views.append((lst[0], table["x"]))
    del lst[0], table["x"]
    for seed, (one, other) in enumerate(views):
        assert same(one, content("f8", 3000, seed)) and same(other, content("f8", 3000, seed))


def test_each_read_gives_a_new_object():
    lst, table = ns.List([[1]], comm=MPI.COMM_SELF), ns.Dict({"x": [1]}, comm=MPI.COMM_SELF)
    lst[0].append(2)
    table["x"].append(2)
    assert lst[0] == table["x"] == [1] and lst[0] is not lst[0]


@several_ranks
def test_what_one_rank_has_put_in_all_others_can_see_until_they_let_go():
    lst = ns.List(comm=node)
    lst.append(content("f8", 10_000, node.rank))
    node.Barrier()
    views = list(lst)
    node.Barrier()
    if node.rank == 0:
        lst.clear()
        assert lst.usage()["views"] >= node.size
    node.Barrier()
    assert sorted(view[0] for view in views) == sorted(content("f8", 1, rank)[0] for rank in range(node.size))
    del views
    gc.collect()
    node.Barrier()
    assert lst.usage()["views"] == 0
    node.Barrier()


def test_thousands_of_views_of_an_entry_are_kept_and_let_go():
    lst = ns.List([np.arange(3000.0)], comm=MPI.COMM_SELF)
    kept = [lst[0] for _ in range(5000)]
    assert lst.usage()["views"] == 5000
    del lst[0]
    assert all(same(one, np.arange(3000.0)) for one in kept)
    kept.clear()
    gc.collect()
    assert lst.usage()["views"] == 0
    lst.append("x")
    assert lst.pop() == "x"


# --- capacity -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["List", "Dict", "Queue"])
def test_a_full_container_says_so_and_can_be_used_again(name):
    box = Box(name, capacity=1 << 20)
    value = np.ones(40_000, "u1")
    for _ in range(3):
        count, error = fill(box, value)
        told(error, ns.OutOfSharedMemory, name, "capacity", "1 MiB")
        assert 15 <= count <= 26
        if name in ("List", "Dict"):
            assert len(box.container) == count
            assert all(same(one, value) for one in getattr(box.container, "values", lambda: box.container)())
            box.container.clear()
        else:
            for _ in range(count):
                assert same(box.take(), value)
        assert box.usage()["used"] < 1 << 18


@kinds
def test_one_value_that_is_too_large_changes_nothing(name):
    box = Box(name, capacity=1 << 20)
    box.put("before")
    before = box.all_but_free()
    for value in (np.ones(1 << 21, "u1"), bytes(1 << 21), [np.ones(700_000, "u1"), np.zeros(700_000, "u1")]):
        told(outcome(lambda value=value: box.put(value)), ns.OutOfSharedMemory, name, "capacity")
        assert box.all_but_free() == before
    assert box.take() == "before"


def test_what_does_not_fit_whole_is_left_out_whole():
    lst = ns.List(range(5), comm=MPI.COMM_SELF, capacity=1 << 20)
    several = [np.ones(300_000, "u1") for _ in range(5)]
    for call in (
        lambda: lst.extend(several),
        lambda: operator.setitem(lst, slice(1, 3), several),
        lambda: operator.setitem(lst, slice(0, 5), several),
        lambda: operator.setitem(lst, 2, np.ones(1 << 21, "u1")),
        lambda: lst.insert(2, np.ones(1 << 21, "u1")),
    ):
        told(outcome(call), ns.OutOfSharedMemory, "List", "capacity")
        assert list(lst) == [0, 1, 2, 3, 4]
    table = ns.Dict({"x": 1, "y": 2}, comm=MPI.COMM_SELF, capacity=1 << 20)
    large = np.ones(1 << 21, "u1")
    for key in ("x", "z"):
        told(outcome(lambda key=key: operator.setitem(table, key, large)), ns.OutOfSharedMemory, "Dict")
        assert dict(table) == {"x": 1, "y": 2}
    told(outcome(lambda: table.setdefault("z", large)), ns.OutOfSharedMemory, "Dict")
    assert dict(table) == {"x": 1, "y": 2}


@kinds
def test_a_capacity_that_cannot_be_is_refused(name):
    for capacity in (0, -1, "1 GiB", 1.5, None, 2**80):
        error = outcome(lambda capacity=capacity: Box(name, node, capacity=capacity))
        told(error, ns.InvalidArgument, "capacity", repr(capacity))


@kinds
def test_usage_is_that_of_its_heap(name):
    box = Box(name, capacity=1 << 22)
    usage = box.usage()
    assert set(usage) == {"capacity", "used", "present", "largest_free", "blocks", "views"}
    assert usage["capacity"] == 1 << 22 and usage["views"] == 0 and usage["used"] <= usage["present"] <= 1 << 22
    box.put(np.ones(1 << 20, "u1"))
    more = box.usage()
    assert more["used"] - usage["used"] >= 1 << 20 and more["blocks"] > usage["blocks"]
    view = box.take()
    assert box.usage()["views"] >= 1
    del view
    assert box.all_but_free()["used"] - usage["used"] < 1 << 16


@kinds
def test_a_large_capacity_takes_memory_only_as_it_is_used(name):
    box = Box(name, capacity=1 << 36)
    assert box.usage()["present"] < 1 << 24
    assert box.through(1) == 1


# --- what is left ---------------------------------------------------------------------------------------------------


SLOW = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.ranks(2)]


def work(box, times):
    """Put in and take out small and large values, some of them in several pieces, and such as are refused."""
    array = np.arange(2000.0)
    for number in range(times):
        box.through(number)
        if number % 50 == 0:
            box.through([array, "x" * (number % 3000)])
            outcome(lambda: box.put(threading.Lock()))
            repr(box.container)
            if box.name == "List":
                box.container.extend(range(5))
                box.container[1:4] = [array] * 4
                outcome(lambda: box.container[99])
                box.container.insert(2, number)
                box.container.sort(key=str)
                box.container.clear()
            if box.name == "Dict":
                for key in (number, str(number), (number, "a")):
                    box.container.setdefault(key, array)
                    del box.container[key]
                box.container.pop("none", None)
                outcome(lambda: box.container["none"])
            if box.name == "Queue":
                outcome(box.container.get_nowait)
                box.container.task_done()


@kinds
@pytest.mark.parametrize("times", [1000, pytest.param(100_000, marks=SLOW)])
def test_many_operations_take_no_memory(name, times):
    box = Box(name)
    work(box, times // 3)
    gc.collect()
    before, mine = box.usage(), private_bytes()
    work(box, times)
    gc.collect()
    after = box.usage()
    assert [after[key] for key in ("used", "blocks", "views")] == [before[key] for key in ("used", "blocks", "views")]
    assert after["present"] - before["present"] <= 1 << 20
    assert private_bytes() - mine < 1 << 21


@kinds
def test_what_is_dropped_gives_its_memory_back(name):
    before = alive()
    for number in range(20):
        box = Box(name, node)
        box.put([number, np.ones(9000)])
        kept = Box(name)
        view = kept.through(np.ones(9000))
    node.Barrier()  # all have put in before anybody lets go
    del box, kept
    gc.collect()
    assert view.sum() == 9000
    del view
    gc.collect()
    assert alive() == before


@pytest.mark.slow
@pytest.mark.ranks(1)
@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["Dict", "Pipe"])
def test_arrays_of_more_than_2_to_the_31_elements(name):
    box = Box(name, capacity=7 << 29)
    expected = np.zeros((2, (1 << 30) + 5), "u1")
    expected[1, -3:] = 1, 2, 3
    got = box.through(expected)
    assert got.shape == expected.shape and got[1, -3:].tolist() == [1, 2, 3] and not got[0, -100:].any()


# --- where they may be made -----------------------------------------------------------------------------------------


@kinds
def test_on_several_nodes_all_are_told_how_to_make_one_for_each(name):
    if ns.topology().nodes == 1:
        getattr(ns, name)()
    else:
        told(outcome(getattr(ns, name)), ns.InvalidArgument, f"a {name} is of one node", "topology().node_comm")


@several_ranks
@kinds
def test_a_rank_that_calls_something_else_is_named(name):
    error = outcome(lambda: getattr(ns, name)() if world.rank == LAST else ns.zeros(3))
    if ns.topology().nodes == 1:
        told(error, ns.Mismatch, f"{name}(", "zeros(shape=(3,)")
    else:
        told(error, ns.InvalidArgument if world.rank == LAST else ns.PeerError, f"a {name} is of one node")


@several_ranks
@kinds
def test_ranks_that_ask_for_different_capacities_are_told(name):
    if node.size > 1:
        error = outcome(lambda: getattr(ns, name)(comm=node, capacity=1 << 20 if node.rank else 1 << 21))
        told(error, ns.Mismatch, "capacity")
    getattr(ns, name)(comm=node)


@kinds
def test_they_outlive_their_communicator(name):
    comm = MPI.COMM_SELF.Dup()
    box = Box(name, comm)
    comm.Free()
    assert same(box.through(np.ones(9000)), np.ones(9000))


@kinds
def test_positional_arguments_are_those_of_the_original(name):
    first = {"List": ([1, 2],), "Dict": ([("x", 1)],), "Queue": (3,), "Pipe": (False,)}[name]
    made = getattr(ns, name)(*first, comm=MPI.COMM_SELF)
    if name == "Queue":
        assert made.maxsize == 3
    elif name == "Pipe":
        assert (made[0].readable, made[0].writable) == (True, False)
    else:
        assert len(made) == len(first[0])
    assert isinstance(outcome(lambda: getattr(ns, name)(*first, 1 << 20)), TypeError)


# --- other processes ------------------------------------------------------------------------------------------------


@several_ranks
@pytest.mark.parametrize("name", ["List", "Dict", "Queue"])
def test_a_pickle_is_the_same_container(name):
    made = node.bcast(getattr(ns, name)(comm=node))
    if node.rank == 0:
        {"List": lambda: made.append("x"), "Dict": lambda: made.update(x="x"), "Queue": lambda: made.put("x")}[name]()
    node.Barrier()
    assert made.qsize() == 1 if name == "Queue" else list(made) == ["x"]
    node.Barrier()


@kinds
def test_it_is_not_copied_with_what_it_is_in(name):
    made = Box(name).container
    for whole in (made, [made], {"x": (made,)}):
        told(outcome(lambda whole=whole: copy.deepcopy(whole)), ns.Error, name)


def add_in_child(lst, table, queue, end, number):
    for i in range(100):
        lst.append((number, i, np.full(500, i)))
        table[number, i] = np.full(500, i)
        queue.put((number, i))
    if number == 0:
        end.send(np.full(70_000, 5.0))


@pytest.mark.ranks(1, 2)
def test_forked_children_of_multiprocessing_take_part():
    alone = {"comm": MPI.COMM_SELF}
    lst, table, queue, (here, there) = ns.List(**alone), ns.Dict(**alone), ns.Queue(**alone), ns.Pipe(**alone)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        several = [pool.apply_async(add_in_child, (lst, table, queue, there, number)) for number in range(3)]
        add_in_child(lst, table, queue, there, 3)
        assert same(here.recv(), np.full(70_000, 5.0))
        for one in several:
            one.get(30)
    expected = [(number, i) for number in range(4) for i in range(100)]
    assert sorted(one[:2] for one in lst) == expected == sorted(table)
    assert all((array == i).all() for number, i, array in lst)
    assert all((table[key] == key[1]).all() for key in table)
    assert sorted(queue.get() for _ in expected) == expected


def call_in_child(call, *arguments):
    """Call something that is no function of this file, which would start MPI in a child that is not forked."""
    child = multiprocessing.get_context("spawn").Process(target=call, args=arguments)
    child.start()
    child.join(60)
    assert child.exitcode == 0


@pytest.mark.ranks(1, 2)
def test_other_processes_take_part_where_they_can_have_the_memory():
    alone = {"comm": MPI.COMM_SELF}
    lst, table, queue, (here, there) = ns.List(**alone), ns.Dict(**alone), ns.Queue(**alone), ns.Pipe(**alone)
    array = np.arange(50_000.0)
    call_in_child(operator.methodcaller("append", array), lst)
    call_in_child(operator.methodcaller("update", {"x": array, 2: "b"}), table)
    call_in_child(operator.methodcaller("put", array), queue)
    call_in_child(operator.methodcaller("send", array), there)
    assert same(lst[0], array) and same(table["x"], array) and table[2] == "b"
    assert same(queue.get(), array) and same(here.recv(), array)


@pytest.mark.ranks(1)
@kinds
def test_where_nobody_has_the_memory_a_pickle_says_so(name):
    raw = pickle.dumps(Box(name).container)
    gc.collect()
    told(outcome(lambda: pickle.loads(raw)), ns.Error)


@pytest.mark.ranks(1, 2)
@kinds
def test_a_forked_child_s_views_are_its_own(name):
    box = Box(name, capacity=1 << 20)
    view = box.through(content("f8", 9000))
    child = os.fork()
    if child == 0:
        del view
        gc.collect()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    others_come_and_go(box)
    assert same(view, content("f8", 9000))


# --- threads --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["List", "Queue"])
def test_threads_of_a_rank_may_use_one_at_once(name):
    box, got = Box(name), []

    def run(number):
        for i in range(300):
            box.put((number, i, np.full(100, i)))
            got.append(box.take())

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(one[:2] for one in got) == [(number, i) for number in range(4) for i in range(300)]
    assert all((array == i).all() for number, i, array in got)
