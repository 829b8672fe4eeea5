# SPDX-License-Identifier: BSD-3-Clause
"""Workers look at a shared array, and fill it, each a part."""

import multiprocessing
from multiprocessing import shared_memory

import numpy as np

WORKERS = 2


def work(number, name):
    memory = shared_memory.SharedMemory(name)
    array = np.ndarray((100,), np.float64, memory.buf)
    first, last = 100 * number // WORKERS, 100 * (number + 1) // WORKERS
    print(f"worker {number}: {array[first : first + 5]} before")
    array[first:last] = np.arange(first, last)
    print(f"worker {number}: {array[first : first + 5]} after")
    del array
    memory.close()


if __name__ == "__main__":
    memory = shared_memory.SharedMemory(create=True, size=100 * 8)
    try:
        processes = [multiprocessing.Process(target=work, args=(i, memory.name)) for i in range(WORKERS)]
        for process in processes:
            process.start()
        for process in processes:
            process.join()
        array = np.ndarray((100,), np.float64, memory.buf)
        np.save("result.npy", array)
        del array
    finally:
        memory.close()
        memory.unlink()
