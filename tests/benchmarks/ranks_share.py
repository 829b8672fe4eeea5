# SPDX-License-Identifier: BSD-3-Clause
"""On the ranks: rank 0's dict of 20 arrays for all ranks.

Run as: ranks_share.py BYTES REPETITIONS. Compared with mpi4py's pickled bcast, which gives each rank a copy of its own.
"new": in memory that is taken from the system; "again": in memory of arrays that were dropped. Random order; the time
of a repetition is that of the slowest rank.
"""

from __future__ import annotations

import json
import random
import sys

import numpy as np
from mpi4py import MPI
from samples import bytes_of_all_ranks, compare, seconds_of

import nodeshare as ns

nbytes, repetitions = map(int, sys.argv[1:])
COUNT = 20
world = MPI.COMM_WORLD
root = world.rank == 0
mine = {f"array {i}": np.full(nbytes // COUNT // 8, float(i)) for i in range(COUNT)} if root else None


def new() -> float:
    ns.trim()
    return seconds_of(lambda: ns.share(mine))


def again() -> float:
    return seconds_of(lambda: ns.share(mine))


def pickled() -> float:
    return seconds_of(lambda: world.bcast(mine))


before = bytes_of_all_ranks()
shared = ns.share(mine)
assert shared[f"array {COUNT - 1}"][-1] == COUNT - 1
total = sum(float(array.sum()) for array in shared.values())  # each rank reads all of it
taken = {"share takes": bytes_of_all_ranks() - before}
del shared
if root:
    for name, value in taken.items():
        print(json.dumps({"name": name, "bytes": value}))
compare([new, again, pickled], repetitions, random.Random(1))
