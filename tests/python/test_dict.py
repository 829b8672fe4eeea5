# SPDX-License-Identifier: BSD-3-Clause
"""A Dict is a dict that the ranks of a node share: the same results and errors, and each change in one step."""

import collections.abc
import datetime
import decimal
import enum
import fractions
import itertools
import random
from dataclasses import dataclass

import numpy as np
import pytest
from mpi4py import MPI
from support import leaves_nothing, outcome, same, told, world  # noqa: F401

import nodeshare as ns

pytestmark = pytest.mark.usefixtures("leaves_nothing")

node = ns.topology().node_comm
several_ranks = pytest.mark.ranks(2, 3, 5)


def own(*given):
    """Return a Dict of this rank alone."""
    return ns.Dict(*given, comm=MPI.COMM_SELF)


class Colour(enum.Enum):
    RED = 1


class Number(enum.IntEnum):
    TWO = 2


@dataclass(frozen=True)
class Point:
    """As users write them."""

    x: int
    name: str


def done(call, table):
    """Return what a call on a dict gives, or what it raises."""
    try:
        got = call(table)
    except Exception as error:
        return type(error), error.args if isinstance(error, KeyError) else ()
    return "itself" if got is table else got


def united(table, other):
    table |= other
    return table


def operation(rng, keys):
    """Return something to do to a dict, right or wrong."""
    key, x = rng.choice(keys), rng.choice([1, "a", None, [2], 3.5, b"x" * 5000])
    some = [(rng.choice(keys), number) for number in range(rng.randint(0, 3))]
    return rng.choice(
        [
            ("set", lambda table: table.__setitem__(key, x)),
            ("set", lambda table: table.__setitem__(key, x)),
            ("get item", lambda table: table[key]),
            ("get", lambda table: table.get(key)),
            ("get or", lambda table: table.get(key, x)),
            ("del", lambda table: table.__delitem__(key)),
            ("pop", lambda table: table.pop(key)),
            ("pop or", lambda table: table.pop(key, x)),
            ("popitem", lambda table: table.popitem()),
            ("setdefault", lambda table: table.setdefault(key, x)),
            ("setdefault none", lambda table: table.setdefault(key)),
            ("update pairs", lambda table: table.update(some)),
            ("update mapping", lambda table: table.update(dict(some))),
            ("update names", lambda table: table.update(dict(some), name=x)),
            ("|=", lambda table: united(table, dict(some))),
            ("in", lambda table: key in table),
            ("len", lambda table: (len(table), bool(table))),
            ("keys", lambda table: (list(table.keys()), key in table.keys(), table.keys() & set(keys[:3]))),
            ("values", lambda table: (list(table.values()), x in table.values())),
            ("items", lambda table: (list(table.items()), (key, x) in table.items())),
            ("clear", lambda table: table.clear() if x == 1 and key == keys[0] else None),
        ]
    )


KEYS = ["a", "b", "", "ü" * 40, b"a", 0, 1, 2.0, -1, 10**30, None, (1, "a"), (), ((1,), (None, b"c")), 1j, Colour.RED]


def check(table, model, what):
    assert len(table) == len(model), what
    assert list(table.items()) == list(model.items()), what


@pytest.mark.parametrize("seed", range(4))
def test_any_operations_give_what_they_give_on_a_dict(seed):
    rng, model, table = random.Random(seed + 100 * world.rank), {}, own()
    for number in range(600):
        what, call = operation(rng, KEYS)
        expected, got = done(call, model), done(call, table)
        assert type(got) is type(expected) and got == expected, (number, what)
        check(table, model, (number, what))


@several_ranks
def test_any_operations_of_any_rank_are_seen_by_all():
    table, rng, model = ns.Dict(comm=node), random.Random(7), {}
    for number in range(150):
        what, call = operation(rng, KEYS)
        expected = done(call, model)
        if number % node.size == node.rank:
            assert done(call, table) == expected, (number, what)
        node.Barrier()
        check(table, model, (number, what))
        node.Barrier()


# --- as a dict ------------------------------------------------------------------------------------------------------


def test_it_is_a_mutable_mapping_with_all_that_a_dict_has():
    table = own({"x": 1})
    assert isinstance(table, collections.abc.MutableMapping) and not isinstance(table, dict)
    assert isinstance(outcome(lambda: hash(table)), TypeError)
    assert isinstance(repr(table), str) and "Dict" in repr(table)
    assert dict(table) == {"x": 1} == {**table}


@pytest.mark.parametrize(
    "given", [{}, (), {"x": 1, 2: "y"}, [("x", 1), ("x", 2)], (["ab", "cd"]), {"x": 1}.items()], ids=repr
)
def test_it_begins_with_what_it_is_made_of(given):
    assert list(own(given).items()) == list(dict(given).items())
    assert list(own(iter(given)).items()) == list(dict(given).items()) if not isinstance(given, dict) else True


@several_ranks
def test_rank_0_alone_says_what_it_begins_with():
    table = ns.Dict({"x": 1} if node.rank == 0 else {"y": 2}, comm=node)
    assert dict(table) == {"x": 1}
    node.Barrier()


@pytest.mark.parametrize(
    ("given", "kind"),
    [
        (5, TypeError),
        ([5], TypeError),
        ([(1, 2, 3)], ValueError),
        ({"x": lambda: 0}, Exception),
        ([([], 1)], TypeError),
    ],
    ids=["no iterable", "no pairs", "threes", "does not pickle", "unhashable"],
)
def test_what_it_cannot_begin_with_is_told_to_all(given, kind):
    error = outcome(lambda: ns.Dict(given if node.rank == 0 else (), comm=node))
    if node.rank == 0:
        assert isinstance(error, kind) and not isinstance(error, ns.PeerError)
    else:
        assert type(error) is ns.PeerError
    node.Barrier()


WRONG = {
    "get what is not there": lambda table: table["z"],
    "del what is not there": lambda table: table.__delitem__("z"),
    "pop what is not there": lambda table: table.pop("z"),
    "popitem of nothing": lambda table: (table.clear(), table.popitem()),
    "update by no mapping": lambda table: table.update(5),
    "update by no pairs": lambda table: table.update([5]),
    "update by threes": lambda table: table.update([(1, 2, 3)]),
    "|= no mapping": lambda table: united(table, 5),
    "pop three": lambda table: table.pop("x", 1, 2),
    "unhashable": lambda table: table[[1]],
    "set unhashable": lambda table: table.__setitem__([1], 1),
    "set unhashable within": lambda table: table.__setitem__((1, [2]), 1),
    "del unhashable": lambda table: table.__delitem__({}),
    "in unhashable": lambda table: [1] in table,
    "get unhashable": lambda table: table.get([1]),
    "pop unhashable": lambda table: table.pop([1], None),
    "setdefault unhashable": lambda table: table.setdefault({1}, 5),
    "an array as a key": lambda table: table[np.ones(3)],
}


@pytest.mark.parametrize("call", WRONG.values(), ids=WRONG)
def test_what_is_wrong_is_the_error_of_a_dict_and_changes_nothing(call):
    model = {"x": 1, "y": 2}
    table = own(model)
    expected, error = outcome(lambda: call(model)), outcome(lambda: call(table))
    assert expected is not None and type(error) is type(expected)
    if type(expected) is KeyError and expected.args == ("z",):
        assert error.args == ("z",)
    assert dict(table) == model
    table["x"] = 5
    assert table["x"] == 5


def test_sets_as_keys_are_refused():
    table = own({"x": 1})
    for key in (frozenset({1}), frozenset(), (1, frozenset({2}))):
        told(outcome(lambda key=key: table.__setitem__(key, 1)), ns.InvalidArgument, "frozenset")
        told(outcome(lambda key=key: table[key]), ns.InvalidArgument, "frozenset")
        told(outcome(lambda key=key: key in table), ns.InvalidArgument, "frozenset")
    assert dict(table) == {"x": 1}


def test_a_key_that_does_not_pickle_is_pickle_s_error():
    table = own({"x": 1})
    before = table.usage()["used"]
    for _ in range(20):
        error = outcome(lambda: table.__setitem__(lambda: 0, np.ones(9000)))
        assert error is not None and not isinstance(error, ns.Error)
    assert dict(table) == {"x": 1} and table.usage()["used"] == before


def test_it_compares_as_a_dict():
    table = own({"x": 1, "y": [2]})
    assert table == {"y": [2], "x": 1} and {"x": 1, "y": [2]} == table and table == own({"y": [2], "x": 1})
    assert table != {"x": 1} and table != own() and table != [("x", 1)] and table != 5
    assert own() == {} and not own()


def test_it_may_be_updated_by_itself():
    table = own({"x": 1, "y": 2})
    table.update(table)
    assert united(table, table) is table and dict(table) == {"x": 1, "y": 2}
    table.update((value, key) for key, value in table.items())
    assert dict(table) == {"x": 1, "y": 2, 1: "x", 2: "y"}


def test_a_loop_goes_over_what_was_there_at_its_beginning():
    table = own({"x": 1, "y": 2})
    for key in table:
        table[key + key] = 0
    assert list(table) == ["x", "y", "xx", "yy"]
    begun = iter(table)
    assert next(begun) == "x"
    table.clear()
    assert list(begun) == ["y", "xx", "yy"]
    table.update(x=1, y=2)
    for key, value in table.items():
        del table[key]
        assert value in (1, 2)
    assert dict(table) == {}


@several_ranks
def test_a_value_is_looked_for_in_what_was_there_at_the_beginning_whatever_others_delete_meanwhile():
    table = ns.Dict({"x": 1, "y": 2, "z": 3}, comm=node)

    class Wanted:
        asked = 0

        def __eq__(self, other):
            self.asked += 1
            if self.asked == 1:  # the others delete the rest
                node.Barrier()
                node.Barrier()
            return other == 3

    if node.rank == 0:
        assert Wanted() in table.values()
    else:
        node.Barrier()
        if node.rank == 1:
            del table["y"], table["z"]
        node.Barrier()
    node.Barrier()
    assert dict(table) == ({"x": 1} if node.size > 1 else {"x": 1, "y": 2, "z": 3})
    assert 1 in table.values() and 4 not in table.values()
    node.Barrier()


def test_the_order_is_that_of_insertion():
    table, model = own(), {}
    for key in itertools.chain(range(200, 0, -1), "abc"):
        table[key] = model[key] = 0
    for key in (150, "b", 3):
        table[key] = model[key] = 1  # stays where it is
        del table[key + 1 if key != "b" else "a"], model[key + 1 if key != "b" else "a"]
    table[151] = model[151] = 2  # comes last
    assert list(table.items()) == list(model.items())
    for _ in range(50):
        assert table.popitem() == model.popitem()
    assert list(table.items()) == list(model.items())


# --- keys -----------------------------------------------------------------------------------------------------------

EQUAL = [
    [1, 1.0, True, 1 + 0j, np.int64(1), np.float32(1), np.bool_(True), np.uint8(1)],
    [1, 1.0, fractions.Fraction(1), decimal.Decimal(1)],
    [0, 0.0, -0.0, False],
    [2, Number.TWO, 2.0],
    [2**70, float(2**70), decimal.Decimal(2**70)],
    [0.5, np.float64(0.5), fractions.Fraction(1, 2), decimal.Decimal("0.5")],
    [float("inf"), np.inf, decimal.Decimal("Infinity")],
    ["a", np.str_("a")],
    [b"a", np.bytes_(b"a")],
    [(1, ("a", 2.0)), (True, (np.str_("a"), 2))],
    [Point(1, "a"), Point(1, "a")],
    [Colour.RED, Colour(1)],
    [datetime.date(2020, 1, 2), datetime.date.fromordinal(datetime.date(2020, 1, 2).toordinal())],
]


@pytest.mark.parametrize("keys", EQUAL, ids=lambda keys: repr(keys[0]))
def test_equal_keys_are_one(keys):
    table = own()
    for first, second in itertools.permutations(keys, 2):
        table[first] = "x"
        assert second in table and table[second] == "x" and table.get(second) == "x"
        table[second] = "y"
        assert len(table) == 1 and next(iter(table)) == first
        assert table.pop(second) == "y" and len(table) == 0


def test_keys_that_are_not_equal_are_several():
    keys = [
        *(
            "",
            "a",
            "A",
            "a\0",
            "\ud800",
            "a" * 100_000,
            "a" * 100_001,
            b"",
            b"a",
            b"a\0",
            None,
            "None",
            "1",
            1,
            1.5,
            -1,
            -2,
        ),
        *(0, 2**61 - 1, 2**64, -(2**64), 2**64 + 1, float(2**53), 2**53 + 1, 1e300, 10**300, 10**5000, 0.1, 1j),
        *(
            (),
            (1,),
            ((1,),),
            (1, 2),
            (2, 1),
            ("a",),
            (b"a",),
            ("1",),
            (None,),
            Colour.RED,
            Point(1, "a"),
            Point(1, "b"),
        ),
        *(datetime.date(2020, 1, 2), datetime.datetime(2020, 1, 2), int, float, len, Ellipsis),
    ]
    model = {key: number for number, key in enumerate(keys)}
    assert len(model) == len(keys)
    table = own(model)
    assert list(table) == keys
    for key in keys:
        assert table[key] == model[key]
    for key in keys[::2]:
        del table[key], model[key]
    assert list(table.items()) == list(model.items())
    assert [key in table for key in keys] == [key in model for key in keys]


def test_times_of_several_units_are_several_keys_and_no_numbers():
    units = ("s", "m", "h", "D", "M", "ms", "25s")
    keys = [1, 60, *(np.timedelta64(1, unit) for unit in units), np.timedelta64(60, "s")]
    keys += [(key, "a") for key in keys]
    table = own()
    for number, key in enumerate(keys):
        assert key not in table
        table[key] = number
    assert [table[key] for key in keys] == list(range(len(keys)))
    flat = [key[0] if isinstance(key, tuple) else key for key in table]
    expected = [key[0] if isinstance(key, tuple) else key for key in keys]
    assert [(type(key), repr(key)) for key in flat] == [(type(key), repr(key)) for key in expected]
    assert table.pop(np.timedelta64(1, "s")) == 2 and np.timedelta64(1, "m") in table and 1 in table


@several_ranks
def test_keys_are_found_by_ranks_that_hash_them_differently():
    table = ns.Dict(comm=node)
    for key in KEYS + [Point(1, "a"), datetime.date(2020, 1, 2), ("a", ("b", Point(2, "c"))), Number.TWO, int]:
        if node.rank == 0:
            table[key] = repr(key)
        node.Barrier()
        assert table[key] == repr(key) and key in table
        node.Barrier()
        if node.rank == node.size - 1:
            del table[key]
        node.Barrier()
        assert key not in table and len(table) == 0
        node.Barrier()


def test_thousands_of_keys():
    table, model = own(), {}
    for number in range(5000):
        for key in (number, f"k{number}"):
            table[key] = model[key] = number
    assert table == model and list(table) == list(model)
    for number in range(0, 5000, 3):
        assert table.pop(number) == model.pop(number)
    assert list(table.items()) == list(model.items())
    for number in range(5000):
        assert (number in table) == (number in model) and table[f"k{number}"] == number
    table.clear()
    assert len(table) == 0 and table.usage()["used"] < 1 << 20


# --- in one step ----------------------------------------------------------------------------------------------------


@several_ranks
def test_setdefault_gives_all_the_same():
    table = ns.Dict(comm=node)
    mine = [table.setdefault(number, (node.rank, np.full(100, node.rank))) for number in range(300)]
    owners = [rank for rank, _ in mine]
    assert all((array == rank).all() for rank, array in mine)
    assert node.bcast(owners) == owners
    assert [rank for rank, _ in table.values()] == owners
    node.Barrier()


@several_ranks
def test_what_is_popped_is_popped_once():
    table = ns.Dict({number: number * 2 for number in range(1000)}, comm=node)
    mine = [number for number in range(1000) if table.pop(number, None) is not None]
    assert sorted(itertools.chain(*node.allgather(mine))) == list(range(1000))
    assert len(table) == 0
    node.Barrier()


@several_ranks
def test_popitem_gives_each_once():
    table = ns.Dict({number: number * 2 for number in range(1000)}, comm=node)
    mine = []
    while True:
        try:
            mine.append(table.popitem())
        except KeyError:
            break
    assert mine == sorted(mine, reverse=True) and all(value == 2 * key for key, value in mine)
    assert sorted(key for some in node.allgather(mine) for key, _ in some) == list(range(1000))


@several_ranks
def test_nothing_that_is_set_is_lost():
    table = ns.Dict(comm=node)
    for number in range(500):
        table[node.rank, number] = number
        table[f"all {number}"] = node.rank
        if number % 3 == 0:
            del table[node.rank, number]
    node.Barrier()
    for rank in range(node.size):
        mine = [key[1] for key in table if key[0] == rank]
        assert mine == [number for number in range(500) if number % 3]
    assert sum(isinstance(key, str) for key in table) == 500
    assert all(table[f"all {number}"] in range(node.size) for number in range(500))
    node.Barrier()


@several_ranks
def test_nobody_sees_half_a_value():
    table = ns.Dict({key: np.zeros(700) for key in "abc"}, comm=node)
    kept = []
    for number in range(300):
        table["abc"[number % 3]] = np.full(700 - number, number)
        for one in table.values():
            assert (one == one[0]).all()
            kept.append((one, one[0], one.size))
    assert all((one == value).all() and one.size == size for one, value, size in kept)
    node.Barrier()


@several_ranks
def test_loops_over_what_others_change_end():
    table = ns.Dict({number: number for number in range(50)}, comm=node)
    for step in range(50):
        for key, value in table.items():
            assert key == value
        table.pop(step * node.size + node.rank, None)
        table.setdefault((step * 7 + node.rank) % 100, (step * 7 + node.rank) % 100)
        assert all(key in range(100) for key in table)
    node.Barrier()


def test_an_array_is_what_was_put_in():
    table = own()
    array = np.arange(30_000.0)
    table["x"] = array
    array[:] = 0
    assert same(table["x"], np.arange(30_000.0))
