# SPDX-License-Identifier: BSD-3-Clause
"""A calculation for each hour of a year, by a pool of processes that all read one large array."""

import multiprocessing
from multiprocessing import shared_memory

import numpy as np

HOURS = 8760
SHAPE = (100_000, 16)


def calculate(task):
    hour, x_name, y_name = task
    x_memory, y_memory = shared_memory.SharedMemory(x_name), shared_memory.SharedMemory(y_name)
    x = np.ndarray(SHAPE, np.float64, x_memory.buf)
    y = np.ndarray((HOURS,), np.float64, y_memory.buf)
    y[hour] = x[hour::HOURS].mean()
    del x, y  # a view of memory that is closed crashes
    x_memory.close()
    y_memory.close()


if __name__ == "__main__":
    x = np.random.default_rng(1).random(SHAPE)
    x_memory = shared_memory.SharedMemory(create=True, size=x.nbytes)
    y_memory = shared_memory.SharedMemory(create=True, size=HOURS * 8)
    try:
        shared = np.ndarray(x.shape, x.dtype, x_memory.buf)
        shared[:] = x
        with multiprocessing.Pool(2) as pool:
            pool.map(calculate, [(hour, x_memory.name, y_memory.name) for hour in range(HOURS)])
        y = np.ndarray((HOURS,), x.dtype, y_memory.buf)
        np.save("result.npy", y)
        del shared, y
    finally:
        for memory in (x_memory, y_memory):
            memory.close()
            memory.unlink()
