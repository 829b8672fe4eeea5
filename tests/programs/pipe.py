# SPDX-License-Identifier: BSD-3-Clause
"""Two ranks that talk: one sends arrays, the other answers with what it makes of each."""

import numpy as np

import nodeshare as ns

STEPS = 20
me = ns.topology()
mine, other = ns.Pipe()
if me.rank == 0:
    for step in range(STEPS):
        mine.send((step, np.arange(5.0) + step))
    mine.send(None)
if me.rank == me.size - 1:
    for step, values in iter(other.recv, None):
        other.send(values * step)
if me.rank == 0:
    result = [mine.recv() for _ in range(STEPS)]
    np.save("result.npy", result)
