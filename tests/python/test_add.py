# SPDX-License-Identifier: BSD-3-Clause
"""add: what np.add.at does, from all ranks of a node at once."""

import os

import numpy as np
import pytest
from support import INDICES, content, outcome, told, world

import nodeshare as ns

NUMBERS = "i1 u1 i2 u2 i4 u4 i8 u8 q Q e f4 f8 F D".split()
SELECTIONS = INDICES | {  # that select elements more than once
    "fancy pairs": ([0, 3, 3, 5], [1, 1, 1, 4]),
    "fancy and slice": (slice(2, 4), [4, 0, 4]),
    "fancy with row": (3, [4, 0, 4]),
    "fancy and new axis": ([1, 1], None, slice(1, 3)),
    "array": np.array([[0, 2], [6, 2]]),
    "apart": ([1, 1, 2], slice(None), None),
}


def ranks_here():
    return ns.topology().node_size


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("index", SELECTIONS.values(), ids=SELECTIONS.keys())
def test_every_index_adds_where_numpy_does(index, order):
    a = ns.zeros((7, 5), "i4", order=order)
    values = content("i4", a.array[index].shape, 3)
    expected = np.zeros((7, 5), "i4")
    for _ in range(ranks_here()):
        np.add.at(expected, index, values)
        np.add.at(expected, index, 2)
    a.add(index, values)
    a.add(index, 2)
    a.sync()
    assert np.array_equal(a.array, expected)


@pytest.mark.parametrize("kind", NUMBERS)
def test_every_number_is_added(kind):
    a = ns.zeros(9, kind)
    expected = np.zeros(9, kind)
    for step in range(3):
        values = (np.arange(9) % 4 + step).astype(kind) * (1 + 1j if kind in "FD" else 1)
        a.add(slice(None), values)
        for _ in range(ranks_here()):
            expected += values
    a.sync()
    assert np.array_equal(a.array, expected)


@pytest.mark.parametrize("kind", ["i1", "u8", "e", "f4", "f8", "D"])
def test_nothing_is_lost_when_all_ranks_add_to_the_same_elements(kind):
    a = ns.zeros(4, kind)
    a.sync()
    rounds, each = 100, np.zeros(100, int)  # one element, a hundred times
    for _ in range(rounds):
        a.add(each, 1)
        a.add(slice(1, 3), np.array([1, 2], kind))
    a.sync()
    here = ranks_here()
    most = {"e": 2048}.get(kind, 2**62)  # where a half's next neighbour is 2 further on
    hits = rounds * 100 * here
    assert a.array[0] == (min(hits, most) if kind != "i1" else np.int64(hits).astype("i1"))
    assert a.array[1] == np.int64(rounds * here).astype(kind) and a.array[3] == 0


def test_a_0_d_array_is_added_to():
    a = ns.zeros((), "f4")
    a.add((), 1)
    a.add(..., 2)
    a.add(True, 3)
    a.sync()
    assert a.array[()] == 6 * ranks_here()


def test_fields_of_records_are_added_to_where_they_are_aligned():
    a = ns.zeros(5, np.dtype([("n", "i1"), ("x", "f8")], align=True))
    a.add("x", [1, 2, 3, 4, 5])
    a.sync()
    assert a.array["x"].tolist() == [n * ranks_here() for n in (1, 2, 3, 4, 5)] and not a.array["n"].any()
    packed = ns.zeros(5, [("n", "i1"), ("x", "f8")])
    told(outcome(lambda: packed.add("x", 1)), ns.InvalidArgument, "align=True")


def test_arrays_of_an_arena_are_added_to():
    arena = ns.arena(4096)
    _, a = arena.ones(3), arena.zeros((3, 3), order="F")
    a.add(([0, 0, 2], [1, 1, 2]), [1, 2, 3])
    arena.sync()
    assert a.array.tolist() == [[0, 3 * ranks_here(), 0], [0, 0, 0], [0, 0, 3 * ranks_here()]]


def test_values_may_come_from_the_array_itself():
    a = ns.zeros(6, comm=ns.topology().comm.Split(world.rank))
    a.array[...] = np.arange(6)
    a.add(slice(1, None), a.array[:-1])
    assert a.array.tolist() == [0, 1, 3, 5, 7, 9]


@pytest.mark.skipif("window" in os.environ.get("NODESHARE_MEMORY", ""), reason="a window needs room for all of it")
def test_a_few_elements_of_a_large_array_are_found_without_a_number_for_each():
    a = ns.empty(1 << 40, "u1", reserve=False)
    a.add([5, 1 << 39, 5], 1)
    a.sync()
    assert a.array[5] == 2 * ranks_here() and a.array[1 << 39] == ranks_here()
    a.set(7, index=[1 << 38, 3])
    assert a.array[1 << 38] == a.array[3] == 7 and a.array[1 << 39] == ranks_here()


WRONG = {
    "shape": (lambda a: a.add([1, 2], [1, 2, 3]), ns.InvalidArgument, "(3,)"),
    "kind": (lambda a: a.add(0, 1j), ns.InvalidArgument, "kind"),
    "text": (lambda a: a.add(0, "1"), ns.InvalidArgument, "kind"),
    "None": (lambda a: a.add(0, None), ns.InvalidArgument, "kind"),
    "masked": (lambda a: a.add(..., np.ma.zeros(5)), ns.InvalidArgument, "masked"),
    "outside": (lambda a: a.add(5, 1), IndexError, "5"),
    "outside, fancy": (lambda a: a.add([0, 7], 1), IndexError, "7"),
    "no index": (lambda a: a.add("x", 1), IndexError, "valid"),
    "bool": (lambda a: ns.zeros(3, bool).add(0, True), ns.InvalidArgument, "bool"),
    "long double": (lambda a: ns.zeros(3, "g").add(0, 1), ns.InvalidArgument, "long double"),
    "dates": (lambda a: ns.zeros(3, "M8[s]").add(0, 1), ns.InvalidArgument, "combined"),
    "records": (lambda a: ns.zeros(3, "f8, f8").add(0, 1), ns.InvalidArgument, "combined"),
    "big-endian": (lambda a: ns.zeros(3, ">f8").add(0, 1), ns.InvalidArgument, "byte order"),
    "read-only": (lambda a: ns.array([1, 2]).add(0, 1), ns.InvalidArgument, "thaw"),
}


@pytest.mark.parametrize("call, kind, word", WRONG.values(), ids=WRONG.keys())
def test_what_can_not_be_added_is_refused_and_changes_nothing(call, kind, word):
    a = ns.zeros(5)
    told(outcome(lambda: call(a)), kind, word)
    a.sync()
    assert not a.array.any()
