# SPDX-License-Identifier: BSD-3-Clause
"""Ranks look at a shared array, and fill it, each its rows."""

import numpy as np

import nodeshare as ns

me = ns.topology()
array = ns.zeros(100)
print(f"rank {me.rank}: {array.local[:5]} before")
array.local[:] = np.arange(*array.rows())
print(f"rank {me.rank}: {array.local[:5]} after")
array.sync()
if me.rank == 0:
    np.save("result.npy", array.array)
