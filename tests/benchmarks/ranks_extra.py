# SPDX-License-Identifier: BSD-3-Clause
"""On the ranks: the most private memory that a call takes beside the arrays it works on, on any rank.

Run as: ranks_extra.py BYTES. Each call is made once before, as what a first use takes stays.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile

import numpy as np
from mpi4py import MPI
from samples import most_private_memory

import nodeshare as ns

nbytes = int(sys.argv[1])
world = MPI.COMM_WORLD
rows = nbytes // 8 // 1000
temporary = tempfile.TemporaryDirectory(prefix="nodeshare-") if world.rank == 0 else None
path = os.path.join(world.bcast(temporary and temporary.name), "x.npy")
shared = ns.ones((rows, 1000))
ns.save(path, shared)
mine = np.ones((rows, 1000))
part = mine[: rows // world.size]
halved = np.ones((rows, 1000, 2), "f4")[..., 0]  # neither side by side nor of the array's type
source = np.load(path, mmap_mode="r")
several = {number: piece for number, piece in enumerate(np.split(mine, [rows // 2]))} if world.rank == 0 else None
CALLS = {
    "bcast": lambda: shared.bcast(),
    "allgather": lambda: shared.allgather(),
    "set": lambda: shared.set(mine if world.rank == 0 else None),
    "allreduce": lambda: shared.allreduce(mine),
    "allreduce of another type": lambda: shared.allreduce(halved),
    "allreduce_copies": lambda: shared.allreduce_copies("max"),
    "checksum": lambda: shared.checksum(),
    "array": lambda: ns.array(mine if world.rank == 0 else None),
    "share": lambda: ns.share(several),
    "load": lambda: ns.load(path),
    "save": lambda: ns.save(path, shared),
    "from_parts": lambda: ns.from_parts(part),
    "from_function": lambda: ns.from_function(lambda start, stop: np.ones((stop - start, 1000)), (rows, 1000)),
    "from_source": lambda: ns.from_source(source),
    "from_source to another type": lambda: ns.from_source(source, dtype="f4"),
}
for name, call in CALLS.items():
    call()
    most = most_private_memory(call)
    if world.rank == 0:
        print(json.dumps({"name": name, "bytes": most}), flush=True)
