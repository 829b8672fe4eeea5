# SPDX-License-Identifier: BSD-3-Clause
"""On the ranks of several hosts: an array of rank 0's host to all hosts.

Run as: ranks_nodes.py BYTES REPETITIONS. Compared with MPI_Bcast between the first ranks of the hosts, and over all
ranks, into private buffers that are used again. Random order; the time of a repetition is that of the slowest rank.
"""

from __future__ import annotations

import random
import sys

import numpy as np
from mpi4py import MPI
from samples import compare, seconds_of

import nodeshare as ns

nbytes, repetitions = map(int, sys.argv[1:])
world = MPI.COMM_WORLD
here = ns.topology()
assert here.nodes > 1, "there is one host only"
array = ns.full(nbytes, 1, "u1")
private = np.ones(nbytes, "u1")
first = world.Split(0 if here.is_leader else 1, world.rank)
STEP = 1 << 30  # bytes a message, within what its count can say


def bcast(comm: MPI.Intracomm) -> None:
    for start in range(0, nbytes, STEP):
        comm.Bcast(private[start : start + STEP])


def shared() -> float:
    return seconds_of(array.bcast)


def leaders() -> float:
    return seconds_of(lambda: bcast(first) if here.is_leader else None)


def everyone() -> float:
    return seconds_of(lambda: bcast(world))


compare([shared, leaders, everyone], repetitions, random.Random(1))
