# SPDX-License-Identifier: BSD-3-Clause
"""A node whose /dev/shm is small, as in a container, beside one whose is not: the job works, or all ranks are told."""

import re

import pytest

MIB = 1 << 20


@pytest.fixture(autouse=True)
def small(hosts):
    """Give node1 64 MiB, and node2 1 GiB."""
    for host, size in ("node1", "64m"), ("node2", "1g"):
        hosts.run(host, "mount", "-o", "remount,size=" + size, "/dev/shm")
    yield
    for host in ("node1", "node2"):
        hosts.run(host, "mount", "-o", "remount,size=50%", "/dev/shm")


def used(hosts, host):
    """Return the bytes in a host's /dev/shm."""
    return int(hosts.run(host, "df", "--output=used", "-B1", "/dev/shm").split()[-1])


@pytest.mark.parametrize("ranks", [3, 4])
def test_a_large_array_lies_in_a_memfd_on_the_small_node(job, ranks):
    ended = job(
        ranks,
        """
        import nodeshare as ns
        t = ns.topology()
        a = ns.zeros(200 << 20, "u1")
        a.local[...] = t.node_rank + 1
        a.sync()
        assert all((a.array[slice(*a.rows(r))] == k + 1).all() for k, r in enumerate(t.ranks_on(t.node)))
        t.comm.Barrier()
        print(f"{t.host} has {ns.memory().arrays[-1].kind}", flush=True)
        """,
    )
    assert ended.code == 0, ended.out + ended.err
    on_node1, on_node2 = (ranks + 1) // 2, ranks // 2
    assert ended.out.count("node1 has memfd") == on_node1, ended.out
    kind = "memfd" if on_node2 == 1 else "window"  # one rank alone needs none
    assert ended.out.count(f"node2 has {kind}") == on_node2, ended.out


@pytest.mark.parametrize("ranks", [3, 4])
def test_where_a_window_is_asked_for_all_ranks_are_told_and_the_job_goes_on(job, hosts, ranks):
    script = """
        import os
        import nodeshare as ns
        t = ns.topology()
        warm = ns.zeros(1000)
        t.comm.Barrier()
        before = os.statvfs("/dev/shm").f_bfree
        for repeat in range(3):
            try:
                ns.zeros(200 << 20, "u1")
            except ns.OutOfSharedMemory as error:
                print(f"rank {t.rank} told: {error}", flush=True)
        t.comm.Barrier()
        assert os.statvfs("/dev/shm").f_bfree == before
        a = ns.zeros(1000)
        a.local += 1
        a.sync()
        assert a.array.sum() == 1000
        a.bcast()
        print(f"rank {t.rank} well", flush=True)
    """
    ended = job(ranks, script, env={"NODESHARE_MEMORY": "window"}, timeout=60)
    assert ended.code == 0, ended.out + ended.err
    for rank in range(ranks):
        told = re.findall(rf"rank {rank} told: rank 0 on node1 .*?200 MiB .*? free in /dev/shm", ended.out)
        assert len(told) == 3, ended.out
        assert f"rank {rank} well" in ended.out
    assert [used(hosts, host) for host in ("node1", "node2")] == [0, 0]


def test_two_arrays_that_fit_only_singly(job, hosts):
    script = """
        import nodeshare as ns
        t = ns.topology()
        a = ns.ones(40 << 20, "u1")
        try:
            ns.zeros(40 << 20, "u1")
        except ns.OutOfSharedMemory as error:
            print("told", flush=True)
        assert a.array.min() == 1
        t.comm.Barrier()
        del a
        t.comm.Barrier()
        b = ns.zeros(40 << 20, "u1")
        assert b.array.max() == 0
        print("well", flush=True)
    """
    ended = job(3, script, env={"NODESHARE_MEMORY": "window"})
    assert ended.code == 0, ended.out + ended.err
    assert ended.out.count("told") == ended.out.count("well") == 3
    assert [used(hosts, host) for host in ("node1", "node2")] == [0, 0]
