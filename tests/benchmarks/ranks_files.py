# SPDX-License-Identifier: BSD-3-Clause
"""On the ranks: a .npy file for all of the node, from the page cache, and back to a file.

Run as: ranks_files.py BYTES REPETITIONS. Compared with np.load by each rank, which takes fresh private memory in each
repetition, and with np.save by rank 0. "new": in memory that is taken from the system; "again": in memory of an array
that was dropped. Random order; the time of a repetition is that of the slowest rank.
"""

from __future__ import annotations

import json
import os
import random
import sys
import tempfile

import numpy as np
from mpi4py import MPI
from samples import bytes_of_all_ranks, compare, seconds_of

import nodeshare as ns

nbytes, repetitions = map(int, sys.argv[1:])
world = MPI.COMM_WORLD
temporary = tempfile.TemporaryDirectory(prefix="nodeshare-") if world.rank == 0 else None
path = os.path.join(world.bcast(temporary and temporary.name), "x.npy")
shared = ns.full(nbytes // 8, 1.0)
ns.save(path, shared)


def new() -> float:
    ns.trim()
    return again()


def again() -> float:
    return seconds_of(lambda: ns.load(path))


def np_load() -> float:
    return seconds_of(lambda: np.load(path))


def save() -> float:
    return seconds_of(lambda: ns.save(path, shared))


def write_on_rank_0() -> None:
    if world.rank == 0:
        with open(path + ".peer", "wb") as file:
            np.save(file, shared.array)
            os.fsync(file.fileno())


def np_save() -> float:
    return seconds_of(write_on_rank_0)


before = bytes_of_all_ranks()
loaded = ns.load(path)
total = float(loaded.array.sum())  # each rank reads all of it
taken = {"load takes": bytes_of_all_ranks() - before}
del loaded
if world.rank == 0:
    for name, value in taken.items():
        print(json.dumps({"name": name, "bytes": value}))
compare([new, again, np_load, save, np_save], repetitions, random.Random(1))
