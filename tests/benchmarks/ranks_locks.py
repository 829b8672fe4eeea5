# SPDX-License-Identifier: BSD-3-Clause
"""On the ranks: what a lock and a counter cost from Python, against those of multiprocessing.

Run as: ranks_locks.py REPETITIONS CALLS. All ranks take the same lock, and count on the same counter, CALLS times in
each repetition; its time is that of the slowest rank. Prints the seconds of a call.
"""

from __future__ import annotations

import ctypes
import random
import sys
from itertools import repeat
from multiprocessing.sharedctypes import synchronized
from time import perf_counter

from mpi4py import MPI
from of_multiprocessing import on_all_ranks, spawn
from samples import compare

import nodeshare as ns

repetitions, calls = map(int, sys.argv[1:])
world = MPI.COMM_WORLD
ours, theirs = ns.Lock(), on_all_ranks(spawn.Lock)
counter, cell = ns.Counter(), ns.zeros(1, "i8")
value = synchronized(ctypes.c_longlong.from_buffer(cell.array), on_all_ranks(spawn.RLock))  # a multiprocessing.Value


def lock() -> float:
    begin = perf_counter()
    for _ in repeat(None, calls):
        with ours:
            pass
    return perf_counter() - begin


def mp_lock() -> float:
    begin = perf_counter()
    for _ in repeat(None, calls):
        with theirs:
            pass
    return perf_counter() - begin


def count() -> float:
    begin = perf_counter()
    for _ in repeat(None, calls):
        counter.add()
    return perf_counter() - begin


def mp_value() -> float:
    begin = perf_counter()
    for _ in repeat(None, calls):
        with value.get_lock():
            value.value += 1
    return perf_counter() - begin


compare([lock, mp_lock, count, mp_value], repetitions, random.Random(1), calls)
world.Barrier()
assert counter.value == value.value == (repetitions + 1) * calls * world.size
