# SPDX-License-Identifier: BSD-3-Clause
"""On the ranks: everyone's part, whole for all of the node, in memory that is used again.

Run as: ranks_parts.py BYTES REPETITIONS. Compared with MPI_Allgather into private buffers that are reused. Random
order; the time of a repetition is that of the slowest rank. Also prints the rise of the summed proportional set sizes
(proc(5), smaps_rollup) that the whole takes in both.
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
world = MPI.COMM_WORLD
mine = np.random.default_rng(world.rank).integers(0, 255, nbytes // world.size, "u1")

before = bytes_of_all_ranks()
shared = ns.from_parts(mine)
shared_bytes = bytes_of_all_ranks() - before
reused = np.empty(mine.size * world.size, "u1")
before = bytes_of_all_ranks()
world.Allgather(mine, reused)
private_bytes = bytes_of_all_ranks() - before
if not np.array_equal(shared.array, reused):
    raise AssertionError("from_parts and Allgather differ")
del shared


def parts() -> float:
    return seconds_of(lambda: ns.from_parts(mine))


def allgather() -> float:
    return seconds_of(lambda: world.Allgather(mine, reused))


compare([parts, allgather], repetitions, random.Random(1))
if world.rank == 0:
    print(json.dumps({"name": "shared_bytes", "bytes": shared_bytes}))
    print(json.dumps({"name": "private_bytes", "bytes": private_bytes}))
