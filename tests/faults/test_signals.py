# SPDX-License-Identifier: BSD-3-Clause
"""Ctrl-C and SIGTERM end a job that waits in nodeshare, soon."""

import re
import signal

import pytest

WAITING = """
import time
import nodeshare as ns
from mpi4py import MPI

comm = MPI.COMM_WORLD
a = ns.zeros(5)
print(f"rank {{comm.rank}} begins", flush=True)
if comm.rank == comm.size - 1:
    time.sleep(60)  # the others wait for this one
{call}
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize(
    "call", ["a.sync()", *(pytest.param(call, marks=pytest.mark.slow) for call in ("ns.zeros(8)", "a.bcast()"))]
)
def test_a_signal_to_the_launcher_ends_the_job_within_5_s(job, number, call):
    running = job.start(3, WAITING.format(call=call))
    for rank in range(3):
        assert running.wait_for(f"rank {rank} begins")
    running.send(number)
    ended = running.wait(5)
    assert not ended.timed_out
    assert ended.code != 0
    # MPICH's launcher hands SIGINT on: then each rank says that it was interrupted, and nothing else
    said = [line for line in ended.err.splitlines() if re.match(r"[A-Za-z_.]+(Error|Interrupt)\b", line)]
    assert all(line.startswith(("KeyboardInterrupt", "nodeshare.error.PeerError")) for line in said), ended.err
    assert not said or number == signal.SIGINT, ended.err


def test_a_signal_to_plain_python_is_a_keyboard_interrupt(job):
    running = job.start(
        0, "import nodeshare as ns, time\na = ns.zeros(5)\nprint('begins', flush=True)\ntime.sleep(60)\n"
    )
    assert running.wait_for("begins")
    running.send(signal.SIGINT)
    ended = running.wait(5)
    assert not ended.timed_out and ended.err.count("KeyboardInterrupt") == 1


@pytest.mark.parametrize(
    ("call", "ranks", "placement"),
    [
        ("a.sync()", 2, None),
        ("a.sync()", 3, None),
        ("ns.zeros(8)", 2, None),
        ("ns.zeros(8)", 3, None),
        ("ns.zeros(8)", 3, "2"),  # the rank that all wait for is on another node
        ("ns.zeros(8)", 5, "3,1"),
        ("ns.zeros(8)", 5, "2:cyclic"),
    ],
)
def test_an_interrupted_rank_leaves_its_call_and_the_others_hear_of_it(job, call, ranks, placement):
    """One rank gets a signal while all but the last wait; it catches it, and the job goes on."""
    ended = job(
        ranks,
        f"""
        import os, signal, threading, time
        import nodeshare as ns
        from mpi4py import MPI
        comm = MPI.COMM_WORLD
        a = ns.zeros(5)
        comm.Barrier()
        victim = 0
        if comm.rank == victim:
            threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
        if comm.rank == comm.size - 1:
            time.sleep(1.5)
        try:
            {call}
        except KeyboardInterrupt:
            print(f"rank {{comm.rank}} interrupted", flush=True)
        except ns.Error as error:
            print(f"rank {{comm.rank}} {{type(error).__name__}} {{error}}", flush=True)
        """,
        env={"NODESHARE_RANKS_PER_NODE": placement} if placement else {},
        timeout=30,
    )
    assert "rank 0 interrupted" in ended.out, ended.out + ended.err
    for rank in range(1, ranks):
        assert f"rank {rank} PeerError rank 0 on" in ended.out, ended.out + ended.err


def test_a_job_is_usable_after_an_interrupted_call(job):
    ended = job(
        3,
        """
        import os, signal, threading, time
        import nodeshare as ns
        from mpi4py import MPI
        comm = MPI.COMM_WORLD
        a = ns.zeros(5)
        comm.Barrier()
        if comm.rank == 0:
            threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT)).start()
        if comm.rank == 2:
            time.sleep(1)
        try:
            a.sync()
        except (KeyboardInterrupt, ns.PeerError):
            pass
        b = ns.ones(100)
        assert b.array.sum() == 100
        print("well", flush=True)
        """,
        timeout=30,
    )
    assert ended.out.count("well") == 3, ended.out + ended.err
