# SPDX-License-Identifier: BSD-3-Clause
"""On the ranks: times candidates side by side, weighs what they take, and prints the samples for jobs.py."""

from __future__ import annotations

import gc
import json
import os
import random
import threading
import time
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


def seconds_of(call: Callable[[], object]) -> float:
    """Collective over COMM_WORLD. Seconds of a call on this rank; what it gives is dropped after they are taken."""
    MPI.COMM_WORLD.Barrier()
    begin = time.perf_counter()
    kept = call()
    seconds = time.perf_counter() - begin
    del kept
    return seconds


def bytes_of_all_ranks() -> int:
    """Collective over COMM_WORLD. Sum of the proportional set sizes: pages that n processes share count 1/n in each."""
    world = MPI.COMM_WORLD
    world.Barrier()
    with open("/proc/self/smaps_rollup") as file:
        mine = next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    return world.allreduce(mine)  # nobody goes on before all have looked


def private_memory() -> int:
    """Return the bytes of this process that are no file's and not shared (proc(5), statm)."""
    with open("/proc/self/statm") as file:
        _, resident, shared, *_ = map(int, file.read().split())
    return (resident - shared) * os.sysconf("SC_PAGESIZE")


def most_private_memory(call: Callable[[], object]) -> int:
    """Collective over COMM_WORLD. Return how far a rank's private memory rises during a call, on the worst rank."""
    before = private_memory()
    most = before
    over = threading.Event()

    def look() -> None:
        nonlocal most
        while not over.is_set():
            most = max(most, private_memory())
            time.sleep(0.001)

    watch = threading.Thread(target=look)
    watch.start()
    try:
        call()
    finally:
        over.set()
        watch.join()
    return MPI.COMM_WORLD.allreduce(most - before, MPI.MAX)
