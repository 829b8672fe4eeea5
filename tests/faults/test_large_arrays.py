# SPDX-License-Identifier: BSD-3-Clause
"""Arrays of more elements than an int counts, filled in every way there is, are right on every node."""

import os

import pytest
from test_large_files import available, needs

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
    needs(15, ("memory", available()))  # on two nodes, with the parts
    n = (1 << 31) + 77
    with open(tmp_path / "large", "wb") as file:
        file.truncate(n)
        for value, place in enumerate((0, (1 << 31) - 1, 1 << 31, n - 1), 1):
            os.pwrite(file.fileno(), bytes([value]), place)
    ended = job(3, PROGRAM, env={"NODESHARE_RANKS_PER_NODE": "2"}, timeout=200)
    assert (ended.code, ended.out.count("right")) == (0, 3), ended.out + ended.err


ONE_RANK_HAS_IT = """
    import numpy as np
    import nodeshare as ns

    t = ns.topology()
    n = (1 << 32) + 77  # bytes, each an element
    marks = [0, (1 << 31) - 1, 1 << 31, (1 << 32) - 1, 1 << 32, n - 1]
    root = t.size - 1
    mine = None
    if t.rank == root:
        mine = np.zeros(n, "u1")
        mine[marks] = range(1, len(marks) + 1)

    def check(array):
        assert array.shape == (n,) and array.dtype == np.uint8
        assert array[marks].tolist() == [1, 2, 3, 4, 5, 6], array[marks]
        start, stop = ns.local_range(n, comm=t.node_comm)
        others = t.node_comm.allreduce(np.count_nonzero(array[start:stop])) - len(marks)
        assert others == 0, others
        t.comm.barrier()

    a = ns.array(mine, root=root)
    check(a.array)
    a.thaw()
    a.set(0, root=root)
    if t.rank == root:
        a.array[marks] = mine[marks]
    a.bcast(root)
    check(a.array)
    a.set(0, root=root)
    a.set(mine, root=root)
    check(a.array)
    del a
    check(ns.share({"large": mine}, root=root)["large"])
    print("right", flush=True)
"""


@pytest.mark.slow
def test_more_than_4_gib_of_one_rank_by_array_bcast_set_and_share(job):
    needs(10, ("memory", available()))  # on each of two nodes what the rank has, of which most pages are never touched
    ended = job(3, ONE_RANK_HAS_IT, env={"NODESHARE_RANKS_PER_NODE": "2"}, timeout=200)
    assert (ended.code, ended.out.count("right")) == (0, 3), ended.out + ended.err
