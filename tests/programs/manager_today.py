# SPDX-License-Identifier: BSD-3-Clause
"""A list and a dict that one process fills and another reads; both are kept by a manager's process."""

import multiprocessing

import numpy as np

DAYS = 30


def produce(days, means):
    for day in range(DAYS):
        hours = np.sin(np.arange(24) + day)
        days.append(hours)
        means[f"day {day}"] = float(hours.mean())


def consume(days, means):
    print(f"{len(days)} days; the last: {days[-1]}")
    np.save("result.npy", [day.sum() * means[f"day {number}"] for number, day in enumerate(days)])


if __name__ == "__main__":
    with multiprocessing.Manager() as manager:
        days, means = manager.list(), manager.dict()
        for work in (produce, consume):
            process = multiprocessing.Process(target=work, args=(days, means))
            process.start()
            process.join()
