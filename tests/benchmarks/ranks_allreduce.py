# SPDX-License-Identifier: BSD-3-Clause
"""On the ranks: every rank's private array, combined for all of the node.

Run as: ranks_allreduce.py BYTES REPETITIONS. Compared with MPI_Allreduce from and into private buffers that are used
again in each repetition. Random order; the time of a repetition is that of the slowest rank.
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
mine = np.random.default_rng(world.rank).random(nbytes // 8)
private = np.ones_like(mine)
shared = ns.empty(mine.shape)


def allreduce() -> float:
    return seconds_of(lambda: shared.allreduce(mine))


def mpi() -> float:
    return seconds_of(lambda: world.Allreduce(mine, private))


compare([allreduce, mpi], repetitions, random.Random(1))
if not np.allclose(shared.array, private):
    raise AssertionError("the sums differ")
