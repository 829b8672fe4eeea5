# SPDX-License-Identifier: BSD-3-Clause
"""On the ranks: what List, Dict, Queue and Pipe cost from Python, against those of multiprocessing.

Run as: ranks_containers.py elements|exchange REPETITIONS. `elements`: all ranks use the elements of the same list and
dict, and of a manager's; one rank alone those of a ShareableList, too. `exchange`: rank 0 sends to rank 1, which reads
in full what it gets, through a queue, and through a pipe, from which all comes back. Times are those of the slowest
rank; prints the seconds of a call, of an item, and of a way there and back.
"""

from __future__ import annotations

import multiprocessing
import operator
import random
import sys
from collections.abc import Callable, Iterable, Iterator
from itertools import islice, repeat
from multiprocessing.shared_memory import ShareableList
from time import perf_counter
from typing import Any

import numpy as np
from mpi4py import MPI
from of_multiprocessing import on_all_ranks, spawn
from samples import compare

import nodeshare as ns

Candidate = Callable[[], float]
CALLS = 1000
AT_ONCE = 8  # arrays in a queue
what, repetitions = sys.argv[1], int(sys.argv[2])
GROWN = (repetitions + 1) * CALLS  # elements that a rank adds, those for warming up included
NUMBERS = list(range(CALLS))
NAMES = [f"name {number}" for number in NUMBERS]
world = MPI.COMM_WORLD
order = random.Random(1)


def seconds_of(name: str, call: Callable[..., None], *arguments: Any) -> Candidate:
    """Return what gives the seconds of a call."""

    def seconds() -> float:
        begin = perf_counter()
        call(*arguments)
        return perf_counter() - begin

    seconds.__name__ = name
    return seconds


def get(container: Any, keys: Iterable[Any]) -> None:
    for key in keys:
        container[key]


def put(container: Any, keys: Iterable[Any]) -> None:
    for key in keys:
        container[key] = 0.5


def append(container: Any) -> None:
    for _ in repeat(None, CALLS):
        container.append(0.5)


def insert(container: Any, keys: Iterator[str]) -> None:
    for key in islice(keys, CALLS):
        container[key] = 0.5


def of_elements(whose: str, values: Any, grown_values: Any, named: Any, grown_named: Any) -> list[Candidate]:
    """Return the candidates for two lists and two dicts."""
    new_names = iter([f"rank {world.rank}, {number}" for number in range(GROWN)])
    return [
        seconds_of(f"{whose} List get", get, values, NUMBERS),
        seconds_of(f"{whose} List set", put, values, NUMBERS),
        seconds_of(f"{whose} List append", append, grown_values),
        seconds_of(f"{whose} Dict get", get, named, NAMES),
        seconds_of(f"{whose} Dict set", put, named, NAMES),
        seconds_of(f"{whose} Dict insert", insert, grown_named, new_names),
    ]


def elements() -> None:
    values, named = [0.5] * CALLS, dict.fromkeys(NAMES, 0.5)
    # forked, since a child that is spawned imports this file, and would start MPI
    manager: Any = multiprocessing.get_context("fork").Manager() if world.rank == 0 else None
    theirs = [
        on_all_ranks(lambda: manager.list(values)),
        on_all_ranks(lambda: manager.list()),
        on_all_ranks(lambda: manager.dict(named)),
        on_all_ranks(lambda: manager.dict()),
    ]
    ours = [ns.List(values), ns.List(), ns.Dict(named), ns.Dict()]
    candidates = of_elements("manager's", *theirs) + of_elements("our", *ours)
    shareable = ShareableList(values) if world.size == 1 else None
    if shareable:
        candidates.append(seconds_of("ShareableList get", get, shareable, NUMBERS))
        candidates.append(seconds_of("ShareableList set", put, shareable, NUMBERS))
    compare(candidates, repetitions, order, CALLS)
    if shareable:
        shareable.shm.close()
        shareable.shm.unlink()
    for _, grown_values, _, grown_named in (theirs, ours):
        assert len(grown_values) == len(grown_named) == GROWN * world.size
    world.Barrier()  # the manager ends with rank 0


def through_queue(queue: Any, item: Any, read: Callable[[Any], Any], items: int) -> None:
    """Put items on rank 0, get them on rank 1."""
    if world.rank == 0:
        for _ in repeat(None, items):
            queue.put(item)
    else:
        expected = read(item)
        for _ in repeat(None, items):
            assert read(queue.get()) == expected


def there_and_back(ends: tuple[Any, Any], item: Any, read: Callable[[Any], Any], times: int) -> None:
    """Send an item from rank 0, and send it back from rank 1."""
    expected = read(item)
    if world.rank == 0:
        for _ in repeat(None, times):
            ends[0].send(item)
            assert read(ends[0].recv()) == expected
    else:
        for _ in repeat(None, times):
            received = ends[1].recv()
            assert read(received) == expected
            ends[1].send(received)


def exchange() -> None:
    array = np.arange((1 << 20) / 8)
    for kind, item, read, items, at_once in (
        ("a small item", (17, "task"), operator.itemgetter(0), 2000, 0),
        ("an array of 1 MiB", array, np.ndarray.sum, 50, AT_ONCE),
    ):
        queues = ns.Queue(at_once), on_all_ranks(lambda at_once=at_once: spawn.Queue(at_once))
        pipes = ns.Pipe(), on_all_ranks(spawn.Pipe)
        candidates = []
        for whose, queue, ends in zip(("our", "multiprocessing's"), queues, pipes):
            candidates.append(seconds_of(f"{whose} Queue, {kind}", through_queue, queue, item, read, items))
            candidates.append(seconds_of(f"{whose} Pipe, {kind}", there_and_back, ends, item, read, items))
        compare(candidates, repetitions, order, items)


{"elements": elements, "exchange": exchange}[what]()
