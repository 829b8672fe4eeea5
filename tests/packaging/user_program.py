# SPDX-License-Identifier: BSD-3-Clause
"""A program as a user writes it: mypy must understand each line (test_code.py)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from mpi4py import MPI

import nodeshare as ns


def mean_of_rows(path: str) -> npt.NDArray[np.float64]:
    """Return the means of a matrix's rows, computed by all ranks."""
    x = ns.load(path)
    y = ns.zeros(x.shape[0], dtype=np.float64, comm=MPI.COMM_WORLD)
    rows = ns.work(len(x), progress=True)
    for i in rows:
        y[i] = x.array[i].mean()
    y.allgather(rows)
    ns.save("means.npy", y)
    return y.copy()


def fill() -> float:
    """Write by one rank and by all, and read."""
    a = ns.empty((100, 3))
    b = ns.array(np.arange(3), root=0)
    with ns.together(a) as mine:
        if mine:
            a.local[...] = 1
    with a.writing(root=0) as w:
        if w is not None:
            w[0] = b.array
    a.sync()
    table = ns.share({"b": b.copy()} if ns.topology().rank == 0 else None)
    assert table["b"].shape == b.shape
    with ns.arena(1 << 16) as many:
        states = [many.full((2, 3), 1.5, np.float32) for _ in range(10)]
        many.sync()
        assert many.count == len(states)
    means = ns.map(np.mean, 100, out=ns.zeros(100))
    roots = ns.map_blocks(np.sqrt, means, chunks=10, dtype=np.float32)
    lengths: list[int] = ns.map(len, ["rain", "wind"])
    assert roots.shape == (100,) and len(lengths) == 2
    t = ns.topology()
    lock, table, done = ns.Lock(t.node_comm), ns.RWLock(t.node_comm), ns.Counter(t.node_comm)
    with lock, table.reader:
        print(f"{done.add(2) + done.value} of {done!r}")
    if table.writer.acquire(timeout=1.5):
        table.writer.release()
    ns.Barrier(t.node_comm).wait(60)
    start, stop = ns.local_range(100)
    total = float(np.asarray(a)[start:stop].sum())
    print(f"rank {t.rank} of {t.size}, on node {t.node} of {t.nodes}: {total}")
    a.close()
    return total


if __name__ == "__main__":
    fill()
