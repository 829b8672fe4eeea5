# SPDX-License-Identifier: BSD-3-Clause
"""One rank writes an array, another reads it."""

import numpy as np

import nodeshare as ns

me = ns.topology()
array = ns.zeros((10, 10), np.int64)
with array.writing(root=0) as w:  # at its end all have it, or all are told why not
    if w is not None:
        w[:] = np.arange(100).reshape(10, 10)
if me.rank == me.size - 1:
    np.save("result.npy", array.array)
