# SPDX-License-Identifier: BSD-3-Clause
"""On the ranks: what an array from an arena takes, beside its data.

Run as: ranks_arena.py COUNT REPETITIONS. Prints the rise of a rank's private memory (proc(5), smaps_rollup) per array,
of COUNT arrays that are kept in a list, and the seconds that each took.
"""

from __future__ import annotations

import json
import sys
from time import perf_counter
from typing import Any

from mpi4py import MPI

import nodeshare as ns

count, repetitions = map(int, sys.argv[1:])
world = MPI.COMM_WORLD


def take() -> tuple[float, float]:
    """Return bytes and seconds per array."""
    arena = ns.arena(count * 64)
    arrays: list[Any] = [0] * count
    before, begin = ns.memory().private, perf_counter()
    for number in range(count):
        arrays[number] = arena.zeros(8)
    seconds = perf_counter() - begin
    return (ns.memory().private - before) / count, seconds / count


ns.arena(64).zeros(8)  # what Python and NumPy load at a first use
samples = [take() for _ in range(repetitions)]
rise = world.allreduce(samples[0][0], MPI.MAX)  # later ones find freed memory
seconds = [world.allreduce(one, MPI.MAX) for _, one in samples]
if world.rank == 0:
    print(json.dumps({"name": "bytes", "each": rise}))
    print(json.dumps({"name": "arena", "seconds": seconds}))
