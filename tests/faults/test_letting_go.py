# SPDX-License-Identifier: BSD-3-Clause
"""Letting go of arrays is local, in any order and at any time: nothing deadlocks, nothing crashes."""

import os

import pytest

CASES = {
    "in different orders on different ranks": """
        a, b = ns.zeros(1000), ns.zeros(1000)
        if rank == 0:
            del a; comm.Barrier(); del b
        else:
            del b; comm.Barrier(); del a
        ns.zeros(3)
    """,
    "in a reference cycle that the collector finds on one rank only": """
        import gc
        class Node: pass
        n = Node(); n.self = n; n.array = ns.zeros(1000).array; del n
        if rank == 0:
            gc.collect()
        ns.zeros(3)
    """,
    "held by the traceback of an exception on one rank only": """
        def f():
            a = ns.zeros(1000)
            if rank == 0:
                raise ValueError("kept")
        kept = None
        try:
            f()
        except ValueError as error:
            kept = error
        b = ns.zeros(3)
        del kept
        b.sync()
    """,
    "a handle alive at exit": """
        import builtins
        builtins.kept = ns.zeros(1000)
    """,
    "views alive while Python shuts down, and in use": """
        import atexit, builtins, threading
        class Late:
            def __del__(self):
                assert self.view[0] == 0
        a = ns.zeros(1000)
        builtins.late = Late()
        builtins.late.view = a.array[3:]
        atexit.register(lambda view: print(view.sum(), flush=True), a.array[5:])
        def read(view):
            while True:
                view.sum()
        threading.Thread(target=read, args=[a.array[7:]], daemon=True).start()
    """,
    "views alive at MPI_Finalize and used after it": """
        a = ns.zeros(1000)
        v = a.array[5:]
        a.local += 1
        a.sync()
        MPI.Finalize()
        assert v.sum() == 995
        for call in (a.sync, a.bcast, lambda: ns.zeros(3)):
            try:
                call()
            except ns.Error as error:
                assert "MPI has been finalised" in str(error), error
            else:
                raise AssertionError
        assert v.sum() == 995
        del a, v
    """,
    "closed, with views that stay": """
        a = ns.zeros(1000)
        v = a.array[1:3]
        a.close(); a.close()
        v[:] = 1
        assert v.sum() == 2
        try:
            a.array
        except ns.Error as error:
            assert "closed" in str(error)
        else:
            raise AssertionError
    """,
    "by a thread": """
        import threading
        box = [ns.zeros(1000)]
        t = threading.Thread(target=box.clear); t.start(); t.join()
        ns.zeros(3)
    """,
    "after the communicator was freed": """
        c = comm.Dup()
        a = ns.zeros(1000, comm=c)
        c.Free()
        a.local += 1
        a.sync()
        assert a.array[0] == 1
        del a
        ns.zeros(3)
    """,
}


def let_go(job, ranks, case, env=None):
    script = "import nodeshare as ns\nfrom mpi4py import MPI\ncomm = MPI.COMM_WORLD\nrank = comm.rank\n"
    ended = job(ranks, script + _dedent(CASES[case]) + "\nprint('well', flush=True)\n", env=env, timeout=30)
    assert ended.code == 0, ended.err
    assert ended.out.count("well") == max(ranks, 1)
    assert "Error" not in ended.err


@pytest.mark.parametrize("ranks", [0, 2, 3])
@pytest.mark.parametrize("case", CASES)
def test_letting_go(job, ranks, case):
    if os.environ.get("NODESHARE_MEMORY") == "held-window" and "in use" in case:
        pytest.skip("views of held windows are not to be read while MPI_Finalize runs")
    let_go(job, ranks, case)


@pytest.mark.parametrize(
    "case", ["in different orders on different ranks", "views alive at MPI_Finalize and used after it"]
)
def test_letting_go_of_windows_that_are_held(job, case):
    let_go(job, 3, case, {"NODESHARE_MEMORY": "held-window"})


@pytest.mark.parametrize("ranks", [0, 2, 3])
def test_the_memory_has_no_name_and_is_gone_when_the_last_rank_has_let_go(job, ranks):
    ended = job(
        ranks,
        """
        import nodeshare as ns
        def mappings():  # of the array's size; without a name and without a mapping the kernel frees it
            found = []
            for line in open("/proc/self/maps"):
                first, last = (int(x, 16) for x in line.split()[0].split("-"))
                if 100 << 20 <= last - first <= 101 << 20 and "s " in line[:line.index(" ") + 6]:
                    found.append(line)
            return found
        t = ns.topology()
        for i in range(3):
            a = ns.zeros(100 << 20, "u1")
            v = a.array[7:]
            assert len(mappings()) == 1 and "(deleted)" in mappings()[0], mappings()
            t.comm.Barrier()
            del a
            assert len(mappings()) == 1
            del v
            assert len(mappings()) <= 1 and ns.memory().recycled <= 101 << 20
            if i == 2:
                ns.trim()
                assert not mappings(), mappings()
        print("well", flush=True)
        """,
    )
    assert ended.code == 0, ended.err
    assert ended.out.count("well") == max(ranks, 1)


def _dedent(text):
    import textwrap

    return textwrap.dedent(text)
