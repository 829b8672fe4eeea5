# SPDX-License-Identifier: BSD-3-Clause
"""Children that a rank forks: they read and write views, take no part in collectives, and their end harms nobody."""

import pytest


@pytest.mark.parametrize("ranks", [0, 2, 3])
@pytest.mark.parametrize("end", ["os._exit(0)", "a.close(); del v, a; gc.collect(); os._exit(0)"])
def test_a_forked_child_sees_the_array_and_its_end_leaves_it_alone(job, ranks, end):
    ended = job(
        ranks,
        f"""
        import gc, os
        import nodeshare as ns
        t = ns.topology()
        a = ns.zeros(10)
        v = a.array
        t.comm.Barrier()
        pid = os.fork()
        if pid == 0:
            v[t.node_rank] = t.node_rank + 1
            try:
                ns.zeros(3)
            except ns.Error as error:
                v[9] = "forked" in str(error)
            try:
                a.sync()
            except ns.Error as error:
                v[8] = "forked" in str(error)
            {end}
        _, status = os.waitpid(pid, 0)
        assert status == 0, status
        a.sync()
        assert (a.array[:t.node_size] == range(1, t.node_size + 1)).all()
        assert a.array[8] == a.array[9] == 1
        assert ns.memory().arrays[-1].holders == t.node_size
        ns.zeros(3)
        print("well", flush=True)
        """,
        timeout=30,
    )
    assert ended.code == 0, ended.err
    assert ended.out.count("well") == max(ranks, 1)


@pytest.mark.parametrize("ranks", [0, 2])
def test_multiprocessing_with_fork_works_on_the_arrays(job, ranks):
    ended = job(
        ranks,
        """
        import multiprocessing as mp
        import nodeshare as ns
        t = ns.topology()
        a = ns.zeros(100)
        def fill(h, i):
            h.array[i] = i
        with mp.get_context("fork").Pool(2) as pool:
            start, stop = a.rows()
            pool.starmap(fill, [(a, i) for i in range(start, stop)])
        a.sync()
        assert (a.array == range(100)).all()
        print("well", flush=True)
        """,
        timeout=40,
    )
    assert ended.code == 0, ended.err
    assert ended.out.count("well") == max(ranks, 1)
