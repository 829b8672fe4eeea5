# SPDX-License-Identifier: BSD-3-Clause
"""Tasks that processes take from a queue, and what they make of them, which goes into another."""

import multiprocessing

import numpy as np

TASKS, WORKERS = 40, 2


def work(tasks, results):
    for number, values in iter(tasks.get, None):
        results.put((number, values.mean()))


if __name__ == "__main__":
    tasks, results = multiprocessing.Queue(), multiprocessing.Queue()
    workers = [multiprocessing.Process(target=work, args=(tasks, results)) for _ in range(WORKERS)]
    for worker in workers:
        worker.start()
    for number in range(TASKS):
        tasks.put((number, np.arange(number, number + 1000.0)))
    for _ in workers:
        tasks.put(None)  # one for each worker: there is no more
    means = dict(results.get() for _ in range(TASKS))
    for worker in workers:
        worker.join()
    np.save("result.npy", [means[number] for number in range(TASKS)])
