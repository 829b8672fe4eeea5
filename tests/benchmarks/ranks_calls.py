# SPDX-License-Identifier: BSD-3-Clause
"""On the ranks: what `.array` and `.sync()` cost from Python, against an empty loop and C++'s sync().

Run as: ranks_calls.py REPETITIONS CALLS LIBRARY, LIBRARY being that of calls.cpp. Each repetition makes CALLS calls of
each, in random order; its time is that of the slowest rank. Prints the seconds of a call.
"""

from __future__ import annotations

import ctypes
import random
import sys
from itertools import repeat
from time import perf_counter

from mpi4py import MPI
from samples import compare

import nodeshare as ns

repetitions, calls = map(int, sys.argv[1:3])
world = MPI.COMM_WORLD
a = ns.zeros(1)
in_cpp = ctypes.CDLL(sys.argv[3]).nodeshare_benchmark_syncs
in_cpp.restype = ctypes.c_double


def empty_loop() -> float:
    begin = perf_counter()
    for _ in repeat(None, calls):
        pass
    return perf_counter() - begin


def array() -> float:
    begin = perf_counter()
    for _ in repeat(None, calls):
        a.array  # noqa: B018
    return perf_counter() - begin


def sync() -> float:
    begin = perf_counter()
    for _ in repeat(None, calls):
        a.sync()
    return perf_counter() - begin


def sync_in_cpp() -> float:
    return in_cpp(world.py2f(), ctypes.c_long(calls))


compare([empty_loop, array, sync, sync_in_cpp], repetitions, random.Random(1), calls)
