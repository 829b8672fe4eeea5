# SPDX-License-Identifier: BSD-3-Clause
"""Communicators of all kinds: of threads, spawned, of a session, and many of them, made and freed."""

import pytest


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_threads_work_on_communicators_of_their_own(job, ranks):
    ended = job(
        ranks,
        """
        import threading
        import nodeshare as ns
        from mpi4py import MPI

        if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
            print("no MPI_THREAD_MULTIPLE\\n", end="", flush=True)
            raise SystemExit
        comms = [MPI.COMM_WORLD.Dup() for _ in range(2)]
        errors = []

        def work(comm, number):
            try:
                kept = []
                for step in range(100):
                    size = 1 + 5000 * (step % 7)
                    a = ns.zeros(size, comm=comm)
                    assert not a.array.any()
                    a.sync()
                    a.local[...] = number + step
                    a.sync()
                    kept.append(a.array[::2])
                    b = ns.array([number, step], comm=comm) if comm.rank == 0 else ns.array(None, comm=comm)
                    assert b.array.tolist() == [number, step]
                    if step % 5 == 4:
                        assert all((view == number + step - 4 + i).all() for i, view in enumerate(kept))
                        kept.clear()
            except BaseException as error:
                errors.append(error)
                comm.Abort(3)

        threads = [threading.Thread(target=work, args=(comm, 1000 * i)) for i, comm in enumerate(comms)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors
        print("well\\n", end="", flush=True)
        """,
    )
    if "no MPI_THREAD_MULTIPLE" in ended.out:
        pytest.skip("this MPI has no MPI_THREAD_MULTIPLE")
    assert (ended.code, ended.out.count("well")) == (0, ranks), ended.out + ended.err


@pytest.mark.parametrize(
    ("ranks", "call"), [(2, "a.sync()"), (3, "a.sync()"), (2, "ns.zeros(8)"), (3, "ns.zeros(8, comm=comm.Dup())")]
)
def test_a_wait_leaves_other_threads_running(job, ranks, call):
    """The others come only when a thread of rank 0, which waits, has run Python: no lock may be held meanwhile."""
    ended = job(
        ranks,
        f"""
        import os, sys, threading, time
        import nodeshare as ns
        from mpi4py import MPI

        comm = MPI.COMM_WORLD
        a = ns.zeros(5)
        flag = ns.zeros(1)
        comm.Barrier()

        def run():
            for step in range(1000):
                assert flag.array[0] == step
                flag.array[0] += 1
                if step % 10 == 0:
                    time.sleep(0.001)  # gives the lock away, and takes it again

        if comm.rank == 0:
            thread = threading.Thread(target=run)
            thread.start()
        else:
            while flag.array[0] < 1000:
                time.sleep(0.001)
        {call}
        if comm.rank == 0:
            thread.join()
        print("well\\n", end="", flush=True)
        """,
        timeout=30,
    )
    assert (ended.code, ended.out.count("well")) == (0, ranks), ended.out + ended.err


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_spawned_ranks_share_arrays_once_merged(job, tmp_path, ranks):
    spawned = tmp_path / "spawned.py"
    common = """
import sys
import nodeshare as ns
from mpi4py import MPI

def use(inter, high):
    try:
        ns.zeros(3, comm=inter)
    except ns.InvalidArgument as error:
        assert "MPI_Intercomm_merge" in str(error)
    else:
        raise AssertionError
    both = inter.Merge(high)
    a = ns.zeros(1000, comm=both)
    a.local[...] = both.rank
    a.sync()
    assert all((a.array[slice(*a.rows(rank))] == rank).all() for rank in range(both.size))
    b = ns.array(range(5), comm=both, root=both.size - 1)
    assert b.array.tolist() == [0, 1, 2, 3, 4]
    print(f"well on {both.size}\\n", end="", flush=True)
    del a, b
    both.Free()
    inter.Disconnect()
"""
    spawned.write_text(common + "use(MPI.Comm.Get_parent(), True)\n")
    ended = job(
        ranks,
        common
        + f"""
try:
    inter = MPI.COMM_WORLD.Spawn(sys.executable, ["-u", {str(spawned)!r}], 2)
except MPI.Exception as error:
    print(f"no spawning: {{error}}\\n", end="", flush=True)
    raise SystemExit
print("spawned\\n", end="", flush=True)
own = ns.ones(10)
use(inter, False)
own.sync()
assert own.array.sum() == 10
""",
        env={
            "OMPI_MCA_rmaps_default_mapping_policy": ":oversubscribe",
            "PRTE_MCA_rmaps_default_mapping_policy": ":oversubscribe",
        },
    )
    if "spawned" not in ended.out:  # with an error, or by a signal (Intel MPI)
        pytest.skip("this MPI spawns no ranks here: " + (ended.out + ended.err).strip().splitlines()[0])
    assert (ended.code, ended.out.count(f"well on {ranks + 2}")) == (0, ranks + 2), ended.out + ended.err


# Where the MPI has no sessions mpi4py has no such class, or raises an error that says so.
SESSION = """
from mpi4py import MPI
import nodeshare as ns
try:
    session = MPI.Session.Init()
    group = session.Create_group("mpi://WORLD")
    comm = MPI.Intracomm.Create_from_group(group)
except (AttributeError, RuntimeError) as error:
    print(f"no sessions: {error}\\n", end="", flush=True)
    raise SystemExit
"""


def skip_without_sessions(ended):
    if "no sessions" in ended.out:
        pytest.skip("this MPI, or mpi4py, has no sessions: " + ended.out.splitlines()[0])


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_a_communicator_of_a_session_works(job, ranks):
    ended = job(
        ranks,
        SESSION
        + """
a = ns.zeros(100, comm=comm)
a.local[...] = comm.rank + 1
a.sync()
assert all((a.array[slice(*a.rows(rank))] == rank + 1).all() for rank in range(comm.size))
view = a.array
del a
comm.Free()
group.Free()
session.Finalize()
assert view[0] == 1
print("well", flush=True)
""",
    )
    skip_without_sessions(ended)
    assert (ended.code, ended.out.count("well")) == (0, ranks), ended.out + ended.err


def test_a_session_alone_works_or_gets_a_clear_error(job):
    ended = job(
        2,
        "import mpi4py; mpi4py.rc.initialize = False"
        + SESSION
        + """
try:
    a = ns.zeros(100, comm=comm)
except ns.Error as error:
    print(f"told: {error}", flush=True)
else:
    a.local[...] = 1
    a.sync()
    print(f"works: {a.array.sum()}", flush=True)
    del a
comm.Free()
group.Free()
session.Finalize()
""",
    )
    skip_without_sessions(ended)
    told = "told: MPI has not been initialised: call MPI_Init"
    assert (ended.code, max(ended.out.count(told), ended.out.count("works: 100.0"))) == (0, 2), ended.out + ended.err


MANY = """
import gc, os
import nodeshare as ns
from mpi4py import MPI

world = MPI.COMM_WORLD
HELD = os.environ.get("NODESHARE_MEMORY") == "held-window"  # stay until MPI_Finalize with arrays that outlive theirs

def taken():
    gc.collect()
    world.Barrier()
    rollup = open("/proc/self/smaps_rollup").read().split()
    private = int(rollup[rollup.index("Private_Dirty:") + 1])  # clean pages are private once no other program maps them
    return len(open("/proc/self/maps").readlines()), len(os.listdir("/proc/self/fd")), private

def some(count):
    for step in range(count):
        comm = world.Dup()
        a = ns.zeros(1 + step % 3000, comm=comm)
        a.local[...] = step
        a.sync()
        if step % 2 or HELD:
            del a
        comm.Free()

some({first})
before = taken()
some({then})
after = taken()
print(f"before {{before}}, after {{after}}: mappings, files, kB\\n", end="", flush=True)
assert after[0] <= before[0] + 20 and after[1] <= before[1] + 2, (before, after)
assert after[2] <= before[2] + {growth}, (before, after)
print("well\\n", end="", flush=True)
"""


@pytest.mark.parametrize("ranks", [1, 2, 3])
def test_communicators_made_and_freed_leave_nothing_behind(job, ranks):
    # each takes MPICH a quarter of a second where its ranks, which spin, outnumber the cores
    ended = job(ranks, MANY.format(first=100, then=200, growth=2000), timeout=200)
    assert (ended.code, ended.out.count("well")) == (0, ranks), ended.out + ended.err


@pytest.mark.slow
@pytest.mark.parametrize("ranks", [2])
def test_ten_thousand_communicators_made_and_freed_leave_nothing_behind(job, ranks):
    ended = job(ranks, MANY.format(first=500, then=10_000, growth=5000), timeout=400)
    assert (ended.code, ended.out.count("well")) == (0, ranks), ended.out + ended.err
