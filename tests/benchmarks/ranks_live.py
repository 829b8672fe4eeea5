# SPDX-License-Identifier: BSD-3-Clause
"""On the ranks: how many arrays can live at once.

Run as: ranks_live.py COUNT [DESCRIPTORS]. Makes COUNT arrays by `zeros(1)`, under `ulimit -n DESCRIPTORS` if that is
given, and looks whether each holds what was written to it. Prints how many there were, and why there were no more.
"""

from __future__ import annotations

import json
import resource
import sys

count, *descriptors = map(int, sys.argv[1:])
if descriptors:
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors[0], descriptors[0]))

from mpi4py import MPI  # noqa: E402

import nodeshare as ns  # noqa: E402

world = MPI.COMM_WORLD
arrays, why = [], ""
try:
    for _ in range(count):
        arrays.append(ns.zeros(1))
except ns.Error as error:
    why = f"{type(error).__name__}: {error}"
with ns.together(*arrays[:1]):
    for number, array in enumerate(arrays):
        if number % world.size == world.rank:
            array[0] = number
alive = world.allreduce(sum(array[0] == number for number, array in enumerate(arrays)), MPI.MIN)
if world.rank == 0:
    print(json.dumps({"name": "live", "arrays": [int(alive), why]}))
