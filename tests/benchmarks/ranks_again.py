# SPDX-License-Identifier: BSD-3-Clause
"""On the ranks: an array made, written in full by all ranks and dropped, over and over, as programs do in each step.

Run as: ranks_again.py BYTES REPETITIONS empty|zeros. The peers do the same in their own words: pshmem, SharedArray and
multiprocessing.shared_memory, as far as they are installed. Timed is the whole step. The floor, "there": private memory
that is there already is written in full, for zeros after it has been cleared.
"""

from __future__ import annotations

import random
import sys
from collections.abc import Callable
from time import perf_counter

import numpy as np
from mpi4py import MPI
from samples import compare

import nodeshare as ns

nbytes, repetitions, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
world = MPI.COMM_WORLD
start, stop = ns.local_range(nbytes)


def step(make: Callable[[], tuple[np.ndarray, Callable[[], None]]]) -> float:
    """Return the seconds of a step."""
    begin = perf_counter()
    array, drop = make()
    array[start:stop] = 1
    del array
    drop()
    return perf_counter() - begin


def ours() -> float:
    make = getattr(ns, name)

    def made() -> tuple[np.ndarray, Callable[[], None]]:
        a = make(nbytes, "u1")
        return a.array, a.close

    return step(made)


def shared_memory() -> float:
    from multiprocessing import resource_tracker
    from multiprocessing import shared_memory as module

    def made() -> tuple[np.ndarray, Callable[[], None]]:
        block = module.SharedMemory(create=True, size=nbytes) if world.rank == 0 else None
        given = world.bcast(block.name if block else None)
        if block is None:
            block = module.SharedMemory(given)
            resource_tracker.unregister(block._name, "shared_memory")  # type: ignore[attr-defined]

        def drop() -> None:
            world.Barrier()
            block.close()
            if world.rank == 0:
                block.unlink()

        return np.ndarray(nbytes, "u1", block.buf), drop

    return step(made)


def sharedarray() -> float:
    import SharedArray

    def made() -> tuple[np.ndarray, Callable[[], None]]:
        given = "shm://nodeshare-benchmark"
        array = SharedArray.create(given, nbytes, "u1") if world.rank == 0 else None
        world.Barrier()
        if array is None:
            array = SharedArray.attach(given)

        def drop() -> None:
            world.Barrier()
            if world.rank == 0:
                SharedArray.delete(given)

        return array, drop

    return step(made)


def pshmem() -> float:
    from pshmem import MPIShared

    def made() -> tuple[np.ndarray, Callable[[], None]]:
        shared = MPIShared((nbytes,), np.uint8, world)
        return shared.data, shared.close

    return step(made)


private = np.ones(stop - start, "u1")


def there() -> float:
    begin = perf_counter()
    if name == "zeros":
        private.fill(0)
    private[...] = 1
    return perf_counter() - begin


candidates = [ours, there, shared_memory]
for module, one in (("SharedArray", sharedarray), ("pshmem", pshmem)):
    try:
        __import__(module)
        candidates.append(one)
    except ImportError:
        pass
ours.__name__ = name
compare(candidates, repetitions, random.Random(1))
