# SPDX-License-Identifier: BSD-3-Clause
"""On the ranks of several hosts: an array of rank 0's host to all hosts.

Run as: ranks_nodes.py BYTES REPETITIONS. Compared with MPI_Bcast between the first ranks of the hosts, and over all
ranks, into private buffers that are used again. Random order; the time of a repetition is that of the slowest rank.
"""

from __future__ import annotations

import random
import sys
from time import perf_counter

import numpy as np
from mpi4py import MPI
from samples import compare

import nodeshare as ns

nbytes, repetitions = map(int, sys.argv[1:])
world = MPI.COMM_WORLD
here = ns.topology()
assert here.nodes > 1, "there is one host only"
array = ns.full(nbytes, 1, "u1")
private = np.ones(nbytes, "u1")
first = world.Split(0 if here.is_leader else 1, world.rank)
STEP = 1 << 30  # bytes a message, within what its count can say


def timed_bcast(comm: MPI.Intracomm) -> float:
    begin = perf_counter()
    for start in range(0, nbytes, STEP):
        comm.Bcast(private[start : start + STEP])
    return perf_counter() - begin


def shared() -> float:
    world.Barrier()
    begin = perf_counter()
    array.bcast()
    return perf_counter() - begin


def leaders() -> float:
    world.Barrier()
    return timed_bcast(first) if here.is_leader else 0.0


def everyone() -> float:
    world.Barrier()
    return timed_bcast(world)


compare([shared, leaders, everyone], repetitions, random.Random(1))
