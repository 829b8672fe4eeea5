# SPDX-License-Identifier: BSD-3-Clause
"""On the ranks: rank 0's array for all of the node, made in new memory and in memory that is used again.

Run as: ranks_copies.py BYTES REPETITIONS. Compared with a raw window that rank 0 fills, with MPI_Bcast into private
buffers that are fresh in each repetition, and with one memcpy on rank 0 between private buffers that are warm. Random
order; the time of a repetition is that of the slowest rank.
"""

from __future__ import annotations

import random
import sys
from time import perf_counter

import numpy as np
from mpi4py import MPI
from samples import compare, seconds_of

import nodeshare as ns

nbytes, repetitions = map(int, sys.argv[1:])
world = MPI.COMM_WORLD
root = world.rank == 0
private = np.random.default_rng(1).integers(0, 255, nbytes, "u1") if root else None
warm = np.ones(nbytes, "u1") if root else None


def new() -> float:
    ns.trim()
    return array()


def array() -> float:
    return seconds_of(lambda: ns.array(private))


def again() -> float:
    array()
    return array()


def after_rows() -> float:
    """Into memory whose rows were written by each rank: the root has to map the others'."""
    ns.trim()
    a = ns.empty(nbytes, "u1")
    a.local[...] = 1
    a.sync()
    del a
    return array()


def raw() -> float:
    begin = perf_counter()
    window = MPI.Win.Allocate_shared(nbytes + 64 if root else 0, 1, comm=world)
    memory, _ = window.Shared_query(0)
    if root:
        np.frombuffer(memory, "u1")[:nbytes] = private
    world.Barrier()
    seconds = perf_counter() - begin
    window.Free()
    return seconds


def bcast() -> float:
    world.Barrier()
    begin = perf_counter()
    mine = private if root else np.empty(nbytes, "u1")
    step = 1 << 30
    for start in range(0, nbytes, step):
        world.Bcast(mine[start : start + step])
    return perf_counter() - begin


def memcpy() -> float:
    return seconds_of(lambda: np.copyto(warm, private) if root else None)


compare([new, again, after_rows, raw, bcast, memcpy], repetitions, random.Random(1))
