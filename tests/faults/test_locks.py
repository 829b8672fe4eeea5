# SPDX-License-Identifier: BSD-3-Clause
"""Locks when something happens to their owner, to whoever waits, or to MPI meanwhile; and 8 ranks at once."""

import re
import signal

import pytest
from test_progress import NO_SINGLE_COPY

SIDES = ["ns.Lock()", "ns.RWLock().writer", "ns.RWLock().reader"]


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("make", SIDES)
def test_a_rank_that_ends_while_it_holds_a_lock_is_named_to_all_others(job, ranks, make):
    ended = job(
        ranks,
        f"""
        import nodeshare as ns
        from mpi4py import MPI
        comm = MPI.COMM_WORLD
        lock = {make}
        if comm.rank == 0:
            lock.acquire()
        comm.Barrier()
        if comm.rank == 0:
            raise RuntimeError("boom")
        if ".reader" in repr(lock):
            lock = ns.RWLock._at(lock._memory).writer
        for _ in range(2):
            try:
                with lock:
                    print(f"rank {{comm.rank}} got it", flush=True)
            except ns.PeerError as error:
                print(f"rank {{comm.rank}}: {{error}}", flush=True)
        """,
        timeout=30,
    )
    assert "got it" not in ended.out
    found = re.findall(
        r"rank (\d+): rank 0 on \S+ has ended \(RuntimeError: boom at script0.py:\d+\) while it held", ended.out
    )
    assert sorted(found) == sorted([str(rank) for rank in range(1, ranks)] * 2), ended.out + ended.err


@pytest.mark.parametrize("ranks", [2, 3])
def test_kill_9_of_the_owner_leaves_nobody_waiting(job, ranks):
    # the launcher may end the job as soon as it sees the rank gone; then nobody is left to be told
    ended = job(
        ranks,
        """
        import os
        import nodeshare as ns
        from mpi4py import MPI
        comm = MPI.COMM_WORLD
        lock = ns.Lock()
        if comm.rank == 1:
            lock.acquire()
        comm.Barrier()
        if comm.rank == 1:
            os.kill(os.getpid(), 9)
        try:
            lock.acquire()
            print("got it", flush=True)
        except ns.PeerError as error:
            assert "rank 1 on" in str(error)
        """,
        timeout=30,
    )
    assert ended.code != 0 and "got it" not in ended.out


@pytest.mark.parametrize("ranks", [0, 2, 3])
@pytest.mark.parametrize("make", SIDES)
def test_kill_9_of_a_forked_child_that_holds_a_lock_is_told_to_all(job, ranks, make):
    ended = job(
        ranks,
        f"""
        import os, signal
        import nodeshare as ns
        comm = ns.topology().comm
        lock = {make}
        if comm.rank == 0:
            end, begin = os.pipe()
            child = os.fork()
            if child == 0:
                lock.acquire()
                os.write(begin, b"1")
                signal.pause()
            os.read(end, 1)
        comm.Barrier()
        if ".reader" in repr(lock):
            lock = ns.RWLock._at(lock._memory).writer
        assert not lock.acquire(timeout=0.2)
        comm.Barrier()
        if comm.rank == 0:
            os.kill(child, 9)  # and nobody waits for it: it stays as a zombie
        try:
            lock.acquire()
            print("got it", flush=True)
        except ns.PeerError as error:
            print(f"told: {{error}}", flush=True)
        """,
        timeout=30,
    )
    assert ended.code == 0, ended.err
    told = re.findall(r"told: process \d+, forked from rank 0 on \S+ has ended while it held", ended.out)
    assert len(told) == max(ranks, 1), ended.out


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("env", [NO_SINGLE_COPY, {}], ids=["no single copy", "as it is"])
def test_isend_then_acquire_against_recv_then_release(job, ranks, env):
    ended = job(
        ranks,
        """
        import numpy as np
        import nodeshare as ns
        from mpi4py import MPI
        comm = MPI.COMM_WORLD
        rw, freed = ns.RWLock(), comm.Dup()
        outlives = ns.Lock(freed)
        freed.Free()
        for held in (ns.Lock(), rw.writer, rw.reader, outlives):
            data = np.full(1 << 20, comm.rank, np.float64)  # 8 MiB: no MPI sends that eagerly
            if comm.rank == 1:
                (rw.writer if held is rw.reader else held).acquire()
            comm.Barrier()
            if comm.rank == 0:
                request = comm.Isend(data, dest=1)
                with held:
                    pass
                request.Wait()
            if comm.rank == 1:
                comm.Recv(data, source=0)
                (rw.writer if held is rw.reader else held).release()
            comm.Barrier()
        print("well", flush=True)
        """,
        env=env,
        timeout=40,
    )
    assert ended.code == 0, ended.err
    assert ended.out.count("well") == ranks


@pytest.mark.parametrize("make", SIDES)
def test_ctrl_c_ends_a_wait_without_the_lock(job, make):
    ended = job(
        2,
        f"""
        import os, signal, threading
        import nodeshare as ns
        from mpi4py import MPI
        comm = MPI.COMM_WORLD
        lock = {make}
        other = ns.RWLock._at(lock._memory).writer if ".reader" in repr(lock) else lock
        if comm.rank == 0:
            other.acquire()
        comm.Barrier()
        if comm.rank == 1:
            try:
                threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
                with lock:
                    print("got it", flush=True)
            except KeyboardInterrupt:
                print("interrupted", flush=True)
        comm.Barrier()
        if comm.rank == 0:
            other.release()
        comm.Barrier()
        assert not lock.locked()
        comm.Barrier()
        with lock:
            print("well", flush=True)
        """,
        timeout=30,
    )
    assert ended.code == 0, ended.err
    assert "got it" not in ended.out and ended.out.count("interrupted") == 1 and ended.out.count("well") == 2


def test_ctrl_c_in_plain_python_ends_a_wait_for_a_child(job):
    running = job.start(
        0,
        """
        import os, signal, time
        import nodeshare as ns
        lock = ns.Lock()
        child = os.fork()
        if child == 0:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            lock.acquire()
            time.sleep(60)
        while not lock.locked():
            pass
        print("begins", flush=True)
        try:
            lock.acquire()
        except KeyboardInterrupt:
            os.kill(child, 9)
            os.waitpid(child, 0)
            raise
        """,
    )
    assert running.wait_for("begins")
    running.send(signal.SIGINT)
    ended = running.wait(10)
    assert not ended.timed_out and ended.err.count("KeyboardInterrupt") == 1, ended.err


def test_a_wait_beyond_patience_is_reported_by_one_with_who_holds_the_lock(job):
    ended = job(
        4,
        """
        import time
        import nodeshare as ns
        from mpi4py import MPI
        comm = MPI.COMM_WORLD
        lock = ns.Lock()
        if comm.rank == 2:
            lock.acquire()
        comm.Barrier()
        if comm.rank == 2:
            time.sleep(1.8)
            lock.release()
        else:
            with lock:
                pass
        """,
        env={"NODESHARE_PATIENCE": "1"},
    )
    assert ended.code == 0
    lines = [line for line in ended.err.splitlines() if line.startswith("nodeshare: a wait is long")]
    assert len(lines) in (1, 2), ended.err  # after 1 s, and perhaps after 2
    assert re.search(r"rank [013] on \S+ for 1 s for Lock\(\) at script0.py:\d+, which rank 2 on \S+ holds$", lines[0])


@pytest.mark.slow
def test_8_ranks_lose_and_double_nothing(job):
    ended = job(
        8,
        """
        import numpy as np
        import nodeshare as ns
        from mpi4py import MPI
        comm, times = MPI.COMM_WORLD, 100_000
        lock, rw, counter = ns.Lock(), ns.RWLock(), ns.Counter()
        total, given = ns.zeros(100, int), ns.zeros(8 * times, "u1")
        for _ in range(times):
            with lock:
                total[0] += 1
        for _ in range(times):
            given[counter.add()] += 1  # each to one rank
        for i in range(times):
            if i % 8 == comm.rank:
                with rw.writer:
                    total[1] += 1
                    total[99] += 1
            else:
                with rw.reader:
                    assert total[1] == total[99]
        comm.Barrier()
        assert total[0] == counter.value == 8 * times and (given.array == 1).all()
        assert total[1] == total[99] == times
        print("well", flush=True)
        """,
        timeout=100,
    )
    assert ended.code == 0, ended.err
    assert ended.out.count("well") == 8
