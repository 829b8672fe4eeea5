# SPDX-License-Identifier: BSD-3-Clause
"""A List is a list that the ranks of a node share: the same results and errors, and each change in one step."""

import collections.abc
import itertools
import random
import signal

import numpy as np
import pytest
from mpi4py import MPI
from support import LAST, leaves_nothing, outcome, told, world  # noqa: F401

import nodeshare as ns

pytestmark = pytest.mark.usefixtures("leaves_nothing")

node = ns.topology().node_comm
several_ranks = pytest.mark.ranks(2, 3, 5)


def own(*given):
    """Return a List of this rank alone."""
    return ns.List(*given, comm=MPI.COMM_SELF)


def done(call, lst):
    """Return what a call on a list gives, or the type of what it raises."""
    try:
        got = call(lst)
    except Exception as error:
        return type(error)
    return "itself" if got is lst else got


def extended(lst, values):
    lst += values
    return lst


def slice_of(rng, count):
    def bound():
        return rng.choice([None, rng.randint(-count - 3, count + 3)])

    return slice(bound(), bound(), rng.choice([None, None, 1, 2, 3, -1, -2]))


def operation(rng, count, values):
    """Return something to do to a list of so many items, right or wrong."""
    i, x = rng.randint(-count - 2, count + 2), rng.choice(values)
    cut, some = slice_of(rng, count), rng.choices(values, k=rng.randint(0, 4))
    exactly = [rng.choice(values) for _ in range(*cut.indices(count))]
    return rng.choice(
        [
            ("append", lambda lst: lst.append(x)),
            ("append", lambda lst: lst.append(x)),
            ("extend", lambda lst: lst.extend(some)),
            ("extend by an iterator", lambda lst: lst.extend(iter(some))),
            ("+=", lambda lst: extended(lst, some)),
            ("insert", lambda lst: lst.insert(i, x)),
            ("pop", lambda lst: lst.pop()),
            ("pop one", lambda lst: lst.pop(i)),
            ("remove", lambda lst: lst.remove(x)),
            ("index", lambda lst: lst.index(x)),
            ("index from", lambda lst: lst.index(x, i)),
            ("index within", lambda lst: lst.index(x, cut.start or 0, cut.stop or 0)),
            ("count", lambda lst: lst.count(x)),
            ("reverse", lambda lst: lst.reverse()),
            ("sort", lambda lst: lst.sort()),
            ("sort down", lambda lst: lst.sort(reverse=True)),
            ("sort by key", lambda lst: lst.sort(key=str, reverse=i % 2)),
            ("in", lambda lst: x in lst),
            ("get", lambda lst: lst[i]),
            ("get numpy", lambda lst: lst[np.int64(i)]),
            ("get slice", lambda lst: lst[cut]),
            ("set", lambda lst: lst.__setitem__(i, x)),
            ("set slice", lambda lst: lst.__setitem__(cut, some)),
            ("set slice exactly", lambda lst: lst.__setitem__(cut, exactly)),
            ("set all", lambda lst: lst.__setitem__(slice(None), some + exactly)),
            ("del", lambda lst: lst.__delitem__(i)),
            ("del slice", lambda lst: lst.__delitem__(cut)),
            ("reversed", lambda lst: list(reversed(lst))),
            ("len", lambda lst: (len(lst), bool(lst))),
            ("clear", lambda lst: lst.clear() if i == 0 else None),
        ]
    )


def expected_of(what, call, model):
    """Return what a call gives on a list, which it leaves as it was where it cannot be sorted."""
    before = model.copy()
    expected = done(call, model)
    if what.startswith("sort") and expected is TypeError:
        model[:] = before
    return expected


NUMBERS = [*range(-3, 4), 1.0, 2.5, True, 10**20]
MIXED = [*range(3), "a", "b", None, (1, 2), b"c", "long" * 400]


def check(lst, model, what):
    assert len(lst) == len(model), what
    assert list(lst) == model, what


@pytest.mark.parametrize("values", [NUMBERS, MIXED], ids=["numbers", "mixed"])
@pytest.mark.parametrize("seed", range(3))
def test_any_operations_give_what_they_give_on_a_list(values, seed):
    rng, model = random.Random(seed + 100 * world.rank), []
    lst = own()
    for number in range(500):
        what, call = operation(rng, len(model), values)
        expected = expected_of(what, call, model)
        got = done(call, lst)
        assert type(got) is type(expected) and got == expected, (number, what)
        check(lst, model, (number, what))


@several_ranks
def test_any_operations_of_any_rank_are_seen_by_all():
    lst, rng, model = ns.List(comm=node), random.Random(7), []
    for number in range(150):
        what, call = operation(rng, len(model), MIXED)
        expected = expected_of(what, call, model)
        if number % node.size == node.rank:
            got = done(call, lst)
            assert got == expected, (number, what)
        node.Barrier()
        check(lst, model, (number, what))
        node.Barrier()


# --- as a list ------------------------------------------------------------------------------------------------------


def test_it_is_a_mutable_sequence_with_all_that_a_list_has():
    lst = own([1])
    assert isinstance(lst, collections.abc.MutableSequence) and not isinstance(lst, list)
    assert isinstance(outcome(lambda: hash(lst)), TypeError)
    assert isinstance(repr(lst), str) and "List" in repr(lst)
    assert type(lst[:]) is list and np.array(own([1, 2])).tolist() == [1, 2]


@pytest.mark.parametrize(
    "values", [(), [], "abc", range(5), {"x": 1}, iter([1, 2]), np.arange(3), (i for i in range(3))], ids=repr
)
def test_it_begins_with_what_it_is_made_of(values):
    if isinstance(values, collections.abc.Iterator):
        expected, values = [0, 1, 2], iter(range(3))
    else:
        expected = list(values)
    lst = own(values)
    assert list(lst) == expected and len(lst) == len(expected)


@several_ranks
def test_rank_0_alone_says_what_it_begins_with():
    lst = ns.List([1, "a"] if node.rank == 0 else [5], comm=node)
    assert list(lst) == [1, "a"]
    node.Barrier()


@several_ranks
def test_it_is_rank_0_of_its_communicator_that_says():
    comm = node.Split(0, -node.rank)
    lst = ns.List([node.rank], comm=comm)
    assert list(lst) == [node.size - 1]
    comm.Barrier()
    comm.Free()


def broken():
    yield 1
    raise ZeroDivisionError("boom")


@pytest.mark.parametrize(
    ("make", "kind"),
    [(broken, ZeroDivisionError), (lambda: [1, lambda: 0], Exception), (lambda: 5, TypeError)],
    ids=["raises", "does not pickle", "no iterable"],
)
def test_what_it_cannot_begin_with_is_told_to_all(make, kind):
    error = outcome(lambda: ns.List(make() if node.rank == 0 else (), comm=node))
    if node.rank == 0:
        assert isinstance(error, kind) and not isinstance(error, ns.PeerError)
    else:
        assert type(error) is ns.PeerError
    node.Barrier()


def test_more_than_its_capacity_to_begin_with_is_told_to_all():
    error = outcome(lambda: ns.List([np.ones(1 << 21, "u1")], capacity=1 << 20, comm=node))
    told(error, ns.OutOfSharedMemory if node.rank == 0 else ns.PeerError, "List")


WRONG = {
    "index a string": (TypeError, lambda lst: lst["a"]),
    "index a float": (TypeError, lambda lst: lst[1.0]),
    "index none": (TypeError, lambda lst: lst[None]),
    "index a pair": (TypeError, lambda lst: lst[1, 2]),
    "index out of range": (IndexError, lambda lst: lst[3]),
    "index below": (IndexError, lambda lst: lst[-4]),
    "index huge": (IndexError, lambda lst: lst[10**30]),
    "set out of range": (IndexError, lambda lst: lst.__setitem__(3, 1)),
    "set a string": (TypeError, lambda lst: lst.__setitem__("a", 1)),
    "del out of range": (IndexError, lambda lst: lst.__delitem__(3)),
    "del a string": (TypeError, lambda lst: lst.__delitem__("a")),
    "step of 0": (ValueError, lambda lst: lst[::0]),
    "set step of 0": (ValueError, lambda lst: lst.__setitem__(slice(None, None, 0), [])),
    "slice of strings": (TypeError, lambda lst: lst["a":"b"]),
    "set too many in steps": (ValueError, lambda lst: lst.__setitem__(slice(None, None, 2), [1])),
    "set a slice to no iterable": (TypeError, lambda lst: lst.__setitem__(slice(0, 1), 5)),
    "extend by no iterable": (TypeError, lambda lst: lst.extend(5)),
    "+= no iterable": (TypeError, lambda lst: extended(lst, 5)),
    "pop out of range": (IndexError, lambda lst: lst.pop(3)),
    "pop a string": (TypeError, lambda lst: lst.pop("a")),
    "pop of nothing": (IndexError, lambda lst: (lst.clear(), lst.pop())),
    "remove what is not there": (ValueError, lambda lst: lst.remove(7)),
    "index of what is not there": (ValueError, lambda lst: lst.index(7)),
    "insert at a string": (TypeError, lambda lst: lst.insert("a", 1)),
    "append two": (TypeError, lambda lst: lst.append(1, 2)),
    "append none": (TypeError, lambda lst: lst.append()),
    "sort by position": (TypeError, lambda lst: lst.sort(str)),
    "sort what has no order": (TypeError, lambda lst: (lst.append("a"), lst.sort())),
    "sort by a key that raises": (ZeroDivisionError, lambda lst: lst.sort(key=lambda x: 1 / (x - 2))),
}


@pytest.mark.parametrize(("kind", "call"), WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_the_error_of_a_list_and_changes_nothing(kind, call):
    model = [3, 1, 2]
    lst = own(model)
    assert type(outcome(lambda: call(model))) is kind
    assert type(outcome(lambda: call(lst))) is kind
    assert sorted(map(str, lst)) == sorted(map(str, model))  # half sorted, it may be in another order
    lst[:] = [5]
    assert list(lst) == [5]


@pytest.mark.parametrize(
    "cut", [slice(None, None, 2), slice(None, None, -1), slice(5, None, -3), slice(3, 3, 2), slice(-4, 20, 5)], ids=str
)
def test_an_extended_slice_takes_as_many_as_it_has_and_says_so_as_a_list_does(cut):
    model = [3, 1, 2, 5, 4, 0]
    lst, count = own(model), len(model[cut])
    before = lst.usage()["blocks"]
    for others in ({count - 1, count + 1, count + 5} - {-1}) if count else {1, 3}:
        values = ["x" * 200] * others
        expected = outcome(lambda values=values: model.__setitem__(cut, values))
        told(outcome(lambda values=values: lst.__setitem__(cut, values)), type(expected), str(expected))
        assert type(expected) is ValueError and list(lst) == model and lst.usage()["blocks"] == before
    lst[cut] = model[cut] = list(range(count))
    assert list(lst) == model


def test_an_iterable_that_raises_adds_nothing():
    lst = own([3, 1, 2])
    for call in (
        lambda: lst.extend(broken()),
        lambda: extended(lst, broken()),
        lambda: lst.__setitem__(slice(0, 1), broken()),
        lambda: lst.extend([1, lambda: 0]),
        lambda: lst.__setitem__(slice(0, 1), [1, lambda: 0]),
    ):
        assert outcome(call) is not None
        assert list(lst) == [3, 1, 2]


def test_a_sort_says_that_its_key_has_changed_the_list():
    model = [3, 1, 2]
    lst = own(model)
    for one in (model, lst):
        told(
            outcome(lambda one=one: one.sort(key=lambda x: one.append(0) or x)), ValueError, "list modified during sort"
        )
    assert {1, 2, 3} <= set(lst)


def test_it_compares_as_a_list():
    lst = own([1, "a"])
    assert lst == [1, "a"] and [1, "a"] == lst and lst == own([1, "a"]) and lst == lst
    assert lst != [1] and lst != own() and lst != (1, "a") and lst != 5 and not lst == None  # noqa: E711
    assert own() == [] and not own() and own([0])


def test_it_may_be_added_to_itself_and_set_to_itself():
    lst, model = own([1, 2, 3]), [1, 2, 3]
    for call in (
        lambda one: one.extend(one),
        lambda one: extended(one, one),
        lambda one: one.__setitem__(slice(1, 3), one),
        lambda one: one.__setitem__(slice(None), one),
        lambda one: one.__setitem__(slice(None, None, -1), one),
        lambda one: one.extend(x * 2 for x in one[:2]),
        lambda one: one.extend(reversed(one)),
    ):
        call(model)
        call(lst)
        assert list(lst) == model


def test_a_loop_goes_over_what_was_there_at_its_beginning():
    lst = own([1, 2, 3])
    for value in lst:
        lst.append(value)
    assert list(lst) == [1, 2, 3] * 2
    begun = iter(lst)
    assert next(begun) == 1
    lst.clear()
    assert list(begun) == [2, 3, 1, 2, 3]


def test_sorting_keeps_the_order_of_equals_and_the_items():
    rng = random.Random(3)
    model = [(rng.randint(0, 5), number) for number in range(500)]
    lst = own(model)
    for options in ({}, {"key": lambda x: x[0]}, {"key": lambda x: x[0], "reverse": True}, {"reverse": True}):
        model.sort(**options)
        lst.sort(**options)
        assert list(lst) == model
    arrays = own([np.full(3000, value) for value in (3, 1, 2)])
    arrays.sort(key=lambda array: array[0])
    assert [array[0] for array in arrays] == [1, 2, 3] and all((array == array[0]).all() for array in arrays)


def test_thousands_of_items():
    lst, model = own(range(20_000)), list(range(20_000))
    assert list(lst) == model and lst[19_999] == 19_999 and lst[::7] == model[::7]
    del lst[::3], model[::3]
    lst[5000:6000], model[5000:6000] = "abc", "abc"
    lst.insert(1, "x")
    model.insert(1, "x")
    assert list(lst) == model
    for _ in range(500):
        assert lst.pop(0) == model.pop(0)
    lst.clear()
    assert len(lst) == 0 and lst.usage()["used"] < 1 << 20


# --- in one step ----------------------------------------------------------------------------------------------------


@several_ranks
def test_nothing_that_is_appended_is_lost_doubled_or_out_of_order():
    lst = ns.List(comm=node)
    for number in range(1000):
        lst.append((node.rank, number))
    node.Barrier()
    found = list(lst)
    assert len(found) == 1000 * node.size
    for rank in range(node.size):
        assert [number for one, number in found if one == rank] == list(range(1000))
    node.Barrier()


@several_ranks
@pytest.mark.parametrize("end", [0, -1])
def test_what_is_popped_is_popped_once(end):
    lst = ns.List(range(2000), comm=node)
    mine = []
    while True:
        try:
            mine.append(lst.pop(end))
        except IndexError:
            break
    assert mine == sorted(mine, reverse=end == -1)
    assert sorted(itertools.chain(*node.allgather(mine))) == list(range(2000))


@several_ranks
def test_ranks_append_insert_pop_and_remove_at_the_same_time():
    lst, mine, popped = ns.List(comm=node), [], []
    rng = random.Random(node.rank)
    for number in range(300):
        mine.append((node.rank, number))
        if number % 2:
            lst.insert(rng.randint(-5, 5), mine[-1])
        else:
            lst.append(mine[-1])
        try:
            if rng.random() < 0.4:
                popped.append(lst.pop(rng.choice([0, -1])))
            elif rng.random() < 0.4:
                lst.remove(mine[-1])
                popped.append(mine[-1])
        except (IndexError, ValueError):  # other ranks have taken it, or all
            pass
    node.Barrier()
    everything = sorted(itertools.chain(lst, *node.allgather(popped)))
    assert everything == sorted(itertools.chain(*node.allgather(mine)))
    node.Barrier()


@several_ranks
def test_what_is_added_together_stays_together():
    lst = ns.List(comm=node)
    for number in range(100):
        if number % 2:
            lst.extend([(node.rank, number, i) for i in range(5)])
        else:
            lst[1:1] = []
            lst += ((node.rank, number, i) for i in range(5))
    node.Barrier()
    found = list(lst)
    assert len(found) == 500 * node.size
    for first in range(0, len(found), 5):
        rank, number, _ = found[first]
        assert found[first : first + 5] == [(rank, number, i) for i in range(5)]
    node.Barrier()


@several_ranks
def test_nobody_sees_half_a_value_or_half_a_slice():
    lst = ns.List([np.zeros(700), *[0] * 6, np.zeros(700)], comm=node)
    kept = []
    for number in range(300):
        if number % node.size == node.rank:
            lst[0] = np.full(700, number)
            lst[1:7] = [number] * 6
            lst[-1] = np.full(700, number)
        one, last = lst[0], lst[-1]
        assert (one == one[0]).all() and (last == last[0]).all()
        assert len(set(lst[1:7])) == 1 and len(lst) == 8
        assert len(set(list(lst)[1:7])) == 1
        kept.append((one, one[0]))
    assert all((one == value).all() for one, value in kept)
    node.Barrier()


@several_ranks
def test_a_sort_says_that_another_rank_has_changed_the_list_meanwhile():
    lst = ns.List([3, 1, 2], comm=node)
    if node.size > 1:

        def key(x):
            if x == 3:
                node.Barrier()
                node.Barrier()
            return x

        if node.rank == 0:
            told(outcome(lambda: lst.sort(key=key)), ValueError, "list modified during sort")
        else:
            node.Barrier()
            if node.rank == 1:
                lst.append(0)
            node.Barrier()
        node.Barrier()
        assert sorted(lst) == [0, 1, 2, 3]
    node.Barrier()


@several_ranks
def test_ranks_that_sort_and_reverse_at_the_same_time_lose_nothing():
    lst = ns.List(range(50), comm=node)
    for number in range(60):
        try:
            (lst.sort if number % 2 else lst.reverse)()
            lst[number % 50] = lst[number % 50]
        except ValueError as error:
            assert "modified" in str(error)
        assert len(lst) == 50
    node.Barrier()
    assert set(lst) <= set(range(50))
    node.Barrier()


WHOLE = {
    "clear": lambda lst: lst.clear(),
    "reverse": lambda lst: lst.reverse(),
    "set a slice": lambda lst: lst.__setitem__(slice(1, -1), [0] * 10),
    "set in steps": lambda lst: lst.__setitem__(slice(None, None, -100), [0] * (len(lst) // 100)),
    "del a slice": lambda lst: lst.__delitem__(slice(100, -100)),
    "del in steps": lambda lst: lst.__delitem__(slice(None, None, 2)),
}
wholes = pytest.mark.parametrize("call", WHOLE.values(), ids=WHOLE)


@pytest.mark.ranks(1, 2)
@wholes
def test_what_changes_a_whole_list_goes_through_at_once_however_often_a_value_is_set_meanwhile(call):
    model = [0] * 100_000
    lst, times = own(model), []

    def handler(*_):
        if lst:
            lst[0] = 0
        times.append(0)

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 1e-4, 1e-4)  # in less time than a list of so many indices takes
        call(lst)
        assert times
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    call(model)
    assert list(lst) == model


@several_ranks
@wholes
def test_what_changes_a_whole_list_leaves_no_memory_behind_while_others_set_values(call):
    lst, over = ns.List(comm=node), ns.Counter(node)
    if node.rank == 0:
        for _ in range(20):
            lst[:] = [0] * 1000
            call(lst)
        lst[:] = [0] * 1000
        over.add()
    else:
        while not over.value:
            try:
                lst[-1] = lst[0] = node.rank
            except IndexError:  # it is empty
                pass
    node.Barrier()
    assert len(lst) == 1000 and set(lst) <= set(range(node.size))
    assert lst.usage()["blocks"] == 1001  # and the row
    node.Barrier()


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.ranks(3)
def test_views_stay_right_while_ranks_replace_and_delete():
    lst, kept, rng = ns.List([np.zeros(9)] * 16, comm=node, capacity=1 << 24), [], random.Random(node.rank)
    for _ in range(20_000):
        lst[rng.randrange(16)] = np.full(rng.randint(0, 2000), rng.randint(0, 1 << 40))
        kept.append(lst[rng.randrange(16)])
        if len(kept) > 100:
            one = kept.pop(rng.randrange(100))
            assert one.size == 0 or (one == one[0]).all()
    node.Barrier()
