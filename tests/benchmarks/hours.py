# SPDX-License-Identifier: BSD-3-Clause
"""A year's weather, as ranks_hours.py and processes_hours.py calculate it: 8,760 tasks that read one large array."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from time import perf_counter

import numpy as np

HOURS = 8760


def shape_of(nbytes: int) -> tuple[int, int]:
    """Return the shape of an array of so many bytes."""
    return nbytes // 128, 16


def make(x: np.ndarray) -> float:
    """Fill the array; return the seconds it took."""
    begin = perf_counter()
    np.random.default_rng(1).random(out=x)
    return perf_counter() - begin


def calculate(x: np.ndarray, hour: int) -> float:
    """Return what an hour gives."""
    return float(x[len(x) * hour // HOURS : len(x) * (hour + 1) // HOURS].mean())


def memory_of(pids: Iterator[int]) -> int:
    """Return the sum of the proportional set sizes: pages that n processes share count 1/n in each."""
    total = 0
    for pid in pids:
        with open(f"/proc/{pid}/smaps_rollup") as file:
            total += next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss:"))
    return total


def descendants(pid: int) -> Iterator[int]:
    """Yield a process, and all that it has started."""
    yield pid
    for thread in os.listdir(f"/proc/{pid}/task"):
        with open(f"/proc/{pid}/task/{thread}/children") as file:
            for child in file.read().split():
                yield from descendants(int(child))


def tell(name: str, seconds: float, nbytes: int) -> None:
    """Print a sample for jobs.py: the time for sharing and calculating, and the memory of all processes then."""
    print(json.dumps({"name": name, "seconds": [seconds]}))
    print(json.dumps({"name": f"{name} takes", "bytes": [nbytes]}))
