# SPDX-License-Identifier: BSD-3-Clause
"""On the ranks: times candidates side by side and prints their samples for jobs.py."""

from __future__ import annotations

import gc
import json
import random
from collections.abc import Callable, Sequence

import numpy as np
from mpi4py import MPI


def compare(candidates: Sequence[Callable[[], float]], repetitions: int, order: random.Random, per: int = 1) -> None:
    """Collective over COMM_WORLD. Run all in each repetition, in an order that `order` (the same on all ranks) draws.

    A candidate returns the seconds of `per` calls on this rank; printed are those of one, on the slowest rank. The
    first repetition is for warming up.
    """
    world = MPI.COMM_WORLD
    samples: dict[str, list[float]] = {one.__name__: [] for one in candidates}
    gc.disable()
    for repetition in range(repetitions + 1):
        for one in order.sample(candidates, len(candidates)):
            world.Barrier()
            seconds = one()
            if repetition > 0:
                samples[one.__name__].append(seconds / per)
    for name, mine in samples.items():
        slowest = np.array(mine)
        world.Allreduce(MPI.IN_PLACE, slowest, MPI.MAX)
        if world.rank == 0:
            print(json.dumps({"name": name, "seconds": slowest.tolist()}))
