# SPDX-License-Identifier: BSD-3-Clause
"""One process writes an array, another reads it."""

import multiprocessing
from multiprocessing import shared_memory

import numpy as np

SHAPE, DTYPE = (10, 10), np.dtype("int64")


def write(name):
    memory = shared_memory.SharedMemory(name)
    array = np.ndarray(SHAPE, DTYPE, memory.buf)
    array[:] = np.arange(100).reshape(SHAPE)
    del array  # or close() would raise BufferError
    memory.close()


def read(name):
    memory = shared_memory.SharedMemory(name)
    array = np.ndarray(SHAPE, DTYPE, memory.buf)
    np.save("result.npy", array)
    del array
    memory.close()


if __name__ == "__main__":
    memory = shared_memory.SharedMemory(create=True, size=100 * DTYPE.itemsize)
    try:
        for work in (write, read):
            process = multiprocessing.Process(target=work, args=(memory.name,))
            process.start()
            process.join()
    finally:
        memory.close()
        memory.unlink()
