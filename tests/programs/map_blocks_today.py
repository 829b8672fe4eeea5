# SPDX-License-Identifier: BSD-3-Clause
"""A function of each block of an array, by dask."""

import dask.array
import numpy as np


def doubled(block, worker):
    print(f"{worker}: a block of {block.shape}")
    return block * 2


if __name__ == "__main__":
    x = np.arange(1000 * 1000).reshape(1000, 1000)
    blocks = dask.array.from_array(x, chunks=(500, 500))
    result = blocks.map_blocks(doubled, worker="a worker", dtype=x.dtype).compute()
    np.save("result.npy", result)
