# SPDX-License-Identifier: BSD-3-Clause
"""On the ranks: what `.array` and `.sync()` cost from Python, against an empty loop and C++'s sync().

Run as: ranks_calls.py REPETITIONS CALLS LIBRARY, LIBRARY being that of calls.cpp. Each repetition makes CALLS calls of
each, in random order; its time is that of the slowest rank. Prints the seconds of a call.
"""

from __future__ import annotations

import ctypes
import gc
import json
import random
import sys
from itertools import repeat
from time import perf_counter

import numpy as np
from mpi4py import MPI

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


candidates = [empty_loop, array, sync, sync_in_cpp]
order = random.Random(1)  # on all ranks the same
gc.disable()
samples: dict[str, list[float]] = {one.__name__: [] for one in candidates}
for repetition in range(repetitions + 1):
    for one in order.sample(candidates, len(candidates)):
        world.Barrier()
        seconds = one()
        if repetition > 0:  # the first is for warming up
            samples[one.__name__].append(seconds / calls)
for name, mine in samples.items():
    slowest = np.array(mine)
    world.Allreduce(MPI.IN_PLACE, slowest, MPI.MAX)
    if world.rank == 0:
        print(json.dumps({"name": name, "seconds": slowest.tolist()}))
