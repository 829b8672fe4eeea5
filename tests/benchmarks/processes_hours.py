# SPDX-License-Identifier: BSD-3-Clause
"""In plain Python: a year's weather (hours.py), once, by processes that share an array in one of the ways of today.

Run as: processes_hours.py BYTES PROCESSES shared_memory|sharedarray|joblib|ray. The processes have been started before.
Of joblib's file, which has a copy of the array, the weight holds only what processes still map at the end.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from functools import partial
from time import perf_counter

import numpy as np
from hours import HOURS, calculate, descendants, make, memory_of, shape_of, tell


def attached_hour(name: str, shape: tuple[int, int], hour: int) -> float:
    """Calculate an hour by multiprocessing.shared_memory."""
    from multiprocessing import shared_memory

    memory = shared_memory.SharedMemory(name)
    try:
        return calculate(np.ndarray(shape, np.float64, memory.buf), hour)
    finally:
        memory.close()


def sharedarray_hour(name: str, hour: int) -> float:
    """Calculate an hour by SharedArray."""
    import SharedArray

    return calculate(SharedArray.attach(name), hour)


class Samples:
    """Times what shares an array and calculates, and weighs it while all is still there."""

    def __init__(self, name: str, x: np.ndarray, before: int) -> None:
        self._name, self._x, self._before = name, x, before
        self._begin = perf_counter()

    def tell(self, y: list[float]) -> None:
        seconds = perf_counter() - self._begin
        taken = memory_of(descendants(os.getpid())) - self._before
        assert len(y) == HOURS and abs(float(np.mean(y)) - 0.5) < 0.01
        tell(self._name, seconds, taken)


def prepared(name: str, shape: tuple[int, int]) -> tuple[np.ndarray, Samples]:
    """Return the array of the main process, made when all else is there, and begin to time."""
    before = memory_of(descendants(os.getpid()))
    x = np.empty(shape)
    make(x)
    return x, Samples(name, x, before)


def shared_memory(shape: tuple[int, int], processes: int) -> None:
    from multiprocessing import shared_memory as module

    with multiprocessing.Pool(processes) as pool:
        pool.map(abs, range(100))
        x, samples = prepared("shared_memory", shape)
        memory = module.SharedMemory(create=True, size=x.nbytes)
        try:
            shared = np.ndarray(x.shape, x.dtype, memory.buf)
            np.copyto(shared, x)
            samples.tell(pool.map(partial(attached_hour, memory.name, shape), range(HOURS)))
            del shared
        finally:
            memory.close()
            memory.unlink()


def sharedarray(shape: tuple[int, int], processes: int) -> None:
    import SharedArray

    with multiprocessing.Pool(processes) as pool:
        pool.map(abs, range(100))
        x, samples = prepared("sharedarray", shape)
        name = f"shm://nodeshare-benchmark-{os.getpid()}"
        shared = SharedArray.create(name, shape)
        try:
            np.copyto(shared, x)
            samples.tell(pool.map(partial(sharedarray_hour, name), range(HOURS)))
        finally:
            SharedArray.delete(name)


def joblib(shape: tuple[int, int], processes: int) -> None:
    from joblib import Parallel, delayed

    with Parallel(processes) as parallel:
        parallel(delayed(abs)(i) for i in range(100))
        x, samples = prepared("joblib", shape)
        samples.tell(parallel(delayed(calculate)(x, hour) for hour in range(HOURS)))


def ray(shape: tuple[int, int], processes: int) -> None:
    import ray as module

    nbytes = 8 * shape[0] * shape[1]
    module.init(
        num_cpus=processes, object_store_memory=nbytes + (256 << 20), include_dashboard=False, log_to_driver=False
    )
    try:
        calculated = module.remote(calculate)
        small = module.put(np.zeros((HOURS, 16)))
        module.get([calculated.remote(small, hour) for hour in range(100)])
        x, samples = prepared("ray", shape)
        shared = module.put(x)
        samples.tell(module.get([calculated.remote(shared, hour) for hour in range(HOURS)]))
    finally:
        module.shutdown()


if __name__ == "__main__":
    nbytes, processes, name = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
    try:
        {"shared_memory": shared_memory, "sharedarray": sharedarray, "joblib": joblib, "ray": ray}[name](
            shape_of(nbytes), processes
        )
    except ImportError:
        pass  # nothing is printed then
