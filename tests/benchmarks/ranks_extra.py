# SPDX-License-Identifier: BSD-3-Clause
"""On the ranks: the most private memory that filling an array takes beside it, on any rank.

Run as: ranks_extra.py BYTES. A thread looks at the anonymous part of the proportional set size (proc(5), smaps_rollup)
all the time; printed is its rise over each call.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import threading
from collections.abc import Callable

import numpy as np
from mpi4py import MPI

import nodeshare as ns

nbytes = int(sys.argv[1])
world = MPI.COMM_WORLD
rows = nbytes // 8 // 1000
sys.setswitchinterval(1e-4)


def private_bytes() -> int:
    with open("/proc/self/smaps_rollup") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Pss_Anon:"))


def most_while(call: Callable[[], ns.SharedArray]) -> int:
    """Collective. Return the rise on the rank where it is largest."""
    call()  # what a first use takes stays
    world.Barrier()
    most = before = private_bytes()
    ended = threading.Event()

    def look() -> None:
        nonlocal most
        while not ended.is_set():
            most = max(most, private_bytes())

    thread = threading.Thread(target=look)
    thread.start()
    call()
    ended.set()
    thread.join()
    rises: list[int] = world.allgather(most - before)
    return max(rises)


part = np.ones((rows // world.size, 1000))
folder = world.bcast(tempfile.mkdtemp(dir=os.environ.get("TMPDIR")) if world.rank == 0 else None)
path = os.path.join(folder, "source.npy")
if world.rank == 0:
    np.save(path, np.ones((rows, 1000)))
world.Barrier()
source = np.load(path, mmap_mode="r")
world.Barrier()
if world.rank == 0:
    os.unlink(path)
    os.rmdir(folder)
for name, call in {
    "from_parts": lambda: ns.from_parts(part),
    "from_function": lambda: ns.from_function(lambda start, stop: np.ones((stop - start, 1000)), (rows, 1000)),
    "from_source": lambda: ns.from_source(source),
    "from_source, another dtype": lambda: ns.from_source(source, dtype="f4"),
}.items():
    most = most_while(call)
    if world.rank == 0:
        print(json.dumps({"name": name, "bytes": most}))
