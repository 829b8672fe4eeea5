# SPDX-License-Identifier: BSD-3-Clause
"""On the ranks: how much memory one array takes that all of them fill and read.

Run as: ranks_memory.py BYTES REPETITIONS. Prints the rise of the proportional set sizes (a page that n processes share
counts as 1/n in each; proc(5), smaps_rollup), summed over the ranks, over creating, filling and reading.
"""

from __future__ import annotations

import json
import sys

from mpi4py import MPI
from samples import bytes_of_all_ranks

import nodeshare as ns

nbytes, repetitions = map(int, sys.argv[1:])
world = MPI.COMM_WORLD


def filled(nbytes: int) -> ns.SharedArray:
    array = ns.zeros(nbytes // 8)
    array.local[...] = 1
    array.sync()
    if array.array.sum() != nbytes // 8:  # each rank reads all of it
        raise AssertionError("the array does not hold what was written")
    return array


filled(1 << 20)  # what Python and NumPy load at a first use
rises = []
for _ in range(repetitions):
    ns.trim()  # what is kept of the last one would be no rise
    before = bytes_of_all_ranks()
    array = filled(nbytes)
    rises.append(bytes_of_all_ranks() - before)
    del array
if world.rank == 0:
    print(json.dumps({"name": "rise", "bytes": rises}))
