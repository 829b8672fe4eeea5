# SPDX-License-Identifier: BSD-3-Clause
"""Arrays of more elements than an int counts, filled in every way there is, are right on every node."""

import os

import pytest
from test_large_files import GIBIBYTE, available

PROGRAM = """
    import numpy as np
    import nodeshare as ns

    t = ns.topology()
    n = (1 << 31) + 77
    marks = [0, (1 << 31) - 1, 1 << 31, n - 1]

    def check(a):
        assert a.shape == (n,) and a.dtype == np.uint8
        assert a.array[marks].tolist() == [1, 2, 3, 4], a.array[marks]
        others = t.node_comm.allreduce(np.count_nonzero(a.local)) - len(marks)
        assert others == 0, others
        a.sync()

    def marked(start, stop):
        block = np.zeros(stop - start, "u1")
        for value, place in enumerate(marks, 1):
            if start <= place < stop:
                block[place - start] = value
        return block

    edges = [0] + [n - 33] * (t.size - 1) + [n]
    check(ns.from_parts(marked(*edges[t.rank:][:2])))
    check(ns.from_function(marked, n, "u1"))
    source = np.memmap("large", "u1", "r")
    check(ns.from_source(source))
    check(ns.from_source(source, read="each-node"))
    check(ns.map_blocks(np.copy, source))
    print("right", flush=True)
"""


@pytest.mark.slow
def test_more_than_2_31_elements_by_parts_functions_and_sources(job, tmp_path):
    needed = 15 * GIBIBYTE  # on two nodes, with the parts
    if available() < needed:
        pytest.skip(f"needs {needed >> 30} GiB of memory, {available() >> 30} are free")
    n = (1 << 31) + 77
    with open(tmp_path / "large", "wb") as file:
        file.truncate(n)
        for value, place in enumerate((0, (1 << 31) - 1, 1 << 31, n - 1), 1):
            os.pwrite(file.fileno(), bytes([value]), place)
    ended = job(3, PROGRAM, env={"NODESHARE_RANKS_PER_NODE": "2"}, timeout=200)
    assert (ended.code, ended.out.count("right")) == (0, 3), ended.out + ended.err
