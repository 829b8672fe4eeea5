# SPDX-License-Identifier: BSD-3-Clause
"""A function of each block of an array, by all ranks."""

import numpy as np

import nodeshare as ns


def doubled(block, worker):
    print(f"{worker}: a block of {block.shape}")
    return block * 2


me = ns.topology()
x = ns.array(np.arange(1000 * 1000).reshape(1000, 1000) if me.rank == 0 else None)
result = ns.map_blocks(doubled, x, chunks=(500, 500), worker=f"rank {me.rank}", dtype=x.dtype)
if me.rank == 0:
    np.save("result.npy", result.array)
