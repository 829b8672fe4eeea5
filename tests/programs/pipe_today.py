# SPDX-License-Identifier: BSD-3-Clause
"""Two processes that talk: one sends arrays, the other answers with what it makes of each."""

import multiprocessing

import numpy as np

STEPS = 20


def answer(end):
    for step, values in iter(end.recv, None):
        end.send(values * step)


if __name__ == "__main__":
    mine, other = multiprocessing.Pipe()
    process = multiprocessing.Process(target=answer, args=(other,))
    process.start()
    for step in range(STEPS):
        mine.send((step, np.arange(5.0) + step))
    mine.send(None)
    result = [mine.recv() for _ in range(STEPS)]
    process.join()
    np.save("result.npy", result)
