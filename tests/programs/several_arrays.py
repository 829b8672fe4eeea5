# SPDX-License-Identifier: BSD-3-Clause
"""A dict of shared arrays: what keeps track of them is Python, and nothing is to be unlinked."""

import numpy as np

import nodeshare as ns

me = ns.topology()
arrays = {"square": ns.zeros((5, 5), np.int64), "twos": ns.zeros((3, 3), np.int64)}
with ns.together(*arrays.values(), root=0) as mine:
    if mine:
        arrays["square"][:] = np.arange(25).reshape(5, 5)
        arrays["twos"][:] = np.ones((3, 3)) * 2
if me.rank == me.size - 1:
    np.save("result.npy", np.concatenate([arrays["square"].array.ravel(), arrays["twos"].array.ravel()]))
