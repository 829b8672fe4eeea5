# SPDX-License-Identifier: BSD-3-Clause
"""A class that keeps track of shared arrays, and processes that find them by name, shape and type."""

import multiprocessing
from multiprocessing import shared_memory

import numpy as np


class Arrays:
    def __init__(self):
        self._memory = {}
        self.known = {}

    def create(self, name, shape, dtype):
        memory = shared_memory.SharedMemory(create=True, size=int(np.prod(shape)) * np.dtype(dtype).itemsize)
        self._memory[name] = memory
        self.known[name] = (memory.name, shape, dtype)

    def unlink(self):
        for memory in self._memory.values():
            memory.close()
            memory.unlink()


def attached(known):
    memories = {name: shared_memory.SharedMemory(file) for name, (file, _, _) in known.items()}
    return memories, {name: np.ndarray(known[name][1], known[name][2], memories[name].buf) for name in known}


def write(known):
    memories, arrays = attached(known)
    arrays["square"][:] = np.arange(25).reshape(5, 5)
    arrays["twos"][:] = np.ones((3, 3)) * 2
    arrays.clear()
    for memory in memories.values():
        memory.close()


def read(known):
    memories, arrays = attached(known)
    np.save("result.npy", np.concatenate([arrays["square"].ravel(), arrays["twos"].ravel()]))
    arrays.clear()
    for memory in memories.values():
        memory.close()


if __name__ == "__main__":
    shared = Arrays()
    try:
        shared.create("square", (5, 5), np.int64)
        shared.create("twos", (3, 3), np.int64)
        for work in (write, read):
            process = multiprocessing.Process(target=work, args=(shared.known,))
            process.start()
            process.join()
    finally:
        shared.unlink()
