# SPDX-License-Identifier: BSD-3-Clause
"""On the ranks: a year's weather (hours.py), once, by one of those that share an array among ranks.

Run as: ranks_hours.py BYTES in_place|from_root|pshmem. "in_place": rank 0 makes the array where all will read it;
"from_root": it has made one of its own before, as with pshmem. What making it takes is not timed.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from time import perf_counter

import numpy as np
from hours import HOURS, calculate, make, memory_of, shape_of, tell
from mpi4py import MPI

import nodeshare as ns

nbytes, name = int(sys.argv[1]), sys.argv[2]
world = MPI.COMM_WORLD
shape = shape_of(nbytes)
Step = Callable[[], None]


def dealt(x: np.ndarray) -> np.ndarray:
    y = ns.zeros(HOURS)
    hours = ns.work(HOURS)
    for hour in hours:
        y[hour] = calculate(x, hour)
    y.allgather(hours)
    return y.copy()


def in_place() -> tuple[float, np.ndarray, object]:
    begin = perf_counter()
    x = ns.empty(shape)
    with x.writing(root=0) as w:
        making = make(w.array) if w is not None else 0.0
    making = world.bcast(making)
    y = dealt(x.array)
    return perf_counter() - begin - making, y, x


def of_root() -> np.ndarray | None:
    """Return the root's own array."""
    if world.rank:
        return None
    mine = np.empty(shape)
    make(mine)
    return mine


def from_root() -> tuple[float, np.ndarray, object]:
    mine = of_root()
    world.Barrier()
    begin = perf_counter()
    x = ns.array(mine)
    y = dealt(x.array)
    return perf_counter() - begin, y, (mine, x)


def pshmem() -> tuple[float, np.ndarray, object]:
    from pshmem import MPIShared

    mine = of_root()
    world.Barrier()
    begin = perf_counter()
    x = MPIShared(shape, np.float64, world)
    x.set(mine, (0, 0), fromrank=0)
    y = np.zeros(HOURS)
    for hour in range(HOURS * world.rank // world.size, HOURS * (world.rank + 1) // world.size):
        y[hour] = calculate(x.data, hour)
    world.Allreduce(MPI.IN_PLACE, y)
    return perf_counter() - begin, y, (mine, x)


ns.zeros(1)  # the communicator's first call
before = world.allreduce(memory_of(iter([os.getpid()])))
try:
    seconds, y, kept = {"in_place": in_place, "from_root": from_root, "pshmem": pshmem}[name]()
except ImportError:
    sys.exit(0)  # on all ranks
world.Barrier()
taken = world.allreduce(memory_of(iter([os.getpid()]))) - before
seconds = world.allreduce(seconds, MPI.MAX)
assert abs(y.mean() - 0.5) < 0.01 and y.all()
if world.rank == 0:
    tell(name, seconds, taken)
if name == "pshmem":
    kept[1].close()  # type: ignore[index]
