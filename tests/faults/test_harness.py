# SPDX-License-Identifier: BSD-3-Clause
"""What the other fault tests rely on: jobs end, whatever they do, and tell how."""

import signal


def test_an_exception_on_one_rank_ends_the_job_and_is_shown(job):
    ended = job(
        2,
        """
        from mpi4py import MPI
        if MPI.COMM_WORLD.rank == 1:
            MPI.COMM_WORLD.Abort(3)
        MPI.COMM_WORLD.Barrier()
        """,
    )
    assert ended.code != 0
    assert ended.seconds < 20


def test_a_job_that_ignores_its_end_is_killed_with_all_its_ranks(job):
    running = job.start(
        2,
        """
        import signal, time
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        from mpi4py import MPI
        print("up", flush=True)
        time.sleep(1000)
        """,
    )
    assert running.wait_for("up")
    ended = running.wait(timeout=0.5)
    assert ended.timed_out
    assert job(0, f"import os; assert not os.path.exists('/proc/{running.process.pid}')").code == 0


def test_a_signal_reaches_a_running_program(job):
    running = job.start(0, "import time; print('up'); time.sleep(1000)")
    assert running.wait_for("up")
    running.send(signal.SIGTERM)
    assert running.wait(timeout=10).code == -signal.SIGTERM


def test_what_a_killed_launcher_left_is_in_nobodys_way(job):
    """Process ids come again: Open MPI's mpiexec refuses to start if its predecessor of the same id left its files."""
    script = "import os, time; print('in', os.environ['TMPDIR'], flush=True); time.sleep(1000)"
    running = job.start(2, script)
    assert running.wait_for("in ")
    folder = running.output().split()[1]
    running.send(signal.SIGKILL)
    running.wait(timeout=10)
    again = job.start(2, script)
    assert again.wait_for("in ")
    assert again.output().split()[1] != folder
    assert job(0, f"import os; assert not os.path.exists({folder!r})").code == 0
