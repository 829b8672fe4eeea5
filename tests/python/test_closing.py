# SPDX-License-Identifier: BSD-3-Clause
"""Letting go of arrays: local, in any order, as often as one likes; views stay valid."""

import gc
import weakref

import numpy as np
from support import alive, outcome, own, told, world

import nodeshare as ns


def test_a_closed_handle_refuses_politely_and_views_stay_valid():
    a = ns.array(np.arange(4.0), writable=True)
    view, part = a.array, a.local
    for _ in range(3):
        a.close()
    calls = [a.sync, a.bcast, a.allgather, a.copy, a.mlock, a.thaw, a.freeze, a.msync, lambda: a.array, lambda: a.local]
    calls += [lambda: a[0], lambda: a.set(1), lambda: a + 1, lambda: len(a), lambda: iter(a), lambda: np.asarray(a)]
    calls += [lambda: a.writing().__enter__(), lambda: ns.together(a).__enter__(), lambda: a.__setitem__(0, 1)]
    calls += [lambda: bool(a), lambda: 1 in a, lambda: np.sum(a), lambda: a == 1, lambda: np.from_dlpack(a)]
    for call in calls:
        told(outcome(call), ns.Error, "closed")
    world.Barrier()
    assert view.tolist() == [0, 1, 2, 3] and part.shape[0] == a.rows()[1] - a.rows()[0]
    assert (a.shape, a.size, a.order) == ((4,), 4, "C")


def test_with_closes_also_when_it_raises():
    with ns.zeros(3) as a:
        view = a.array
    told(outcome(lambda: a.array), ns.Error, "closed")
    b = ns.zeros(3)
    try:
        with b:
            raise KeyError
    except KeyError:
        pass
    told(outcome(lambda: b.array), ns.Error, "closed")
    assert view.tolist() == [0, 0, 0]


def test_memory_goes_with_its_last_view():
    before = alive()
    a = ns.zeros(1000)
    part, gone = a.array[10:20], weakref.ref(a)
    del a
    assert gone() is None
    held = alive()
    part.fill(1)
    del part
    assert (held[0], alive()) == (before[0] + 1, before)


def test_ranks_let_go_in_any_order():
    before = alive()
    arrays = [ns.full(100, number) for number in range(6)]
    order = np.random.default_rng(world.rank).permutation(6)
    for number in order:
        arrays[number] = None
        _ = ns.memory()
    b = ns.ones(3)
    assert b.array.sum() == 3
    del b
    assert alive() == before


def test_an_array_in_a_reference_cycle_is_collected_on_one_rank_alone():
    before = alive()
    cycle = [ns.zeros(100)]
    cycle.append(cycle)
    del cycle
    if world.rank == 0:
        gc.collect()
    b = ns.ones(3)
    del b
    gc.collect()
    assert alive() == before


def test_the_system_s_calls_on_the_pages():
    a = own(np.zeros(3))
    error = outcome(a.mlock)
    if error is None:
        a.munlock()
    else:
        told(error, ns.Error, "ulimit -l")
    a.msync()
    assert a.array.tolist() == [0, 0, 0]
