# SPDX-License-Identifier: BSD-3-Clause
"""Dealt work when ranks end, fork or write to a terminal."""

import fcntl
import os
import pty
import struct
import sys
import termios

import pytest

SCRIPT = """
import sys
import nodeshare as ns
from mpi4py import MPI

rank, size = MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size
y = ns.zeros(4 * size)
rows = ns.work(4 * size, chunk=1, schedule="static")
for i in rows:
    if rank == {who} and i % 4 == 1:
        {end}
    y[i] = i
try:
    y.allgather(rows)
except ns.Error as error:
    print(f"rank {{rank}}: {{type(error).__name__}}: {{error}}\\n", end="", flush=True)
"""


@pytest.mark.parametrize("ranks", [2, 3])
@pytest.mark.parametrize("end", ["sys.exit(0)", "raise RuntimeError('boom')"])
def test_what_a_rank_took_along_when_it_ended_is_named(job, ranks, end):
    who = ranks - 1
    ended = job(ranks, SCRIPT.format(who=who, end=end))
    first = 4 * who
    for rank in range(ranks - 1):
        line = next(line for line in ended.out.splitlines() if line.startswith(f"rank {rank}: "))
        assert line.startswith(f"rank {rank}: PeerError: rank {who} on ") and "has ended" in line
        assert f"the work is not finished: indices {first + 1} to {first + 1} (rank {who} left before" in line
        assert f"indices {first + 2} to {first + 3} (rank {who} has not come to them)" in line
    assert "Exception ignored" not in ended.err, ended.err


FORK = """
import os
import nodeshare as ns
from mpi4py import MPI

rank, size = MPI.COMM_WORLD.rank, MPI.COMM_WORLD.size
y = ns.zeros(4 * size, int)
rows = ns.work(4 * size, schedule={schedule!r})
other = ns.work(4 * size)
mine = iter(rows)
for i in mine:
    child = os.fork()
    if child == 0:
        mine.close()  # as when the child ends
        try:
            list(other)
        except ns.Error as error:
            os._exit(5 if "forked" in str(error) else 6)
        os._exit(7)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 5
    y[i] += i + 1
y.allgather(rows)
assert y.array.tolist() == list(range(1, 4 * size + 1))
print(f"rank {{rank}} is done\\n", end="", flush=True)
"""


@pytest.mark.parametrize("schedule", ["dynamic", "static"])
def test_a_forked_child_takes_nothing_from_its_rank_s_work(job, schedule):
    ended = job(2, FORK.format(schedule=schedule))
    assert ended.code == 0 and ended.out.count("is done") == 2, ended.out + ended.err


PROGRESS = """
import time
import nodeshare as ns

for _ in ns.work(3, chunk=1, progress=True):
    time.sleep(0.11)
try:
    for i in ns.work(5, chunk=1, progress=True):
        if i == 2:
            raise KeyError(i)
        time.sleep(0.11)
except KeyError:
    print("a line of its own")
"""


def test_on_a_terminal_progress_is_a_bar_that_ends_its_line(tmp_path):
    path = tmp_path / "script.py"
    path.write_text(PROGRESS)
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, str(path)])
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    shown = b""
    try:
        while more := os.read(terminal, 1 << 16):
            shown += more
    except OSError:
        pass  # how a terminal ends
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, shown
    bars = shown.decode().split("\r")
    assert any("100%" in bar and "3/3" in bar for bar in bars), bars
    assert any("2/5" in bar for bar in bars) and not any("5/5" in bar for bar in bars), bars
    assert "\na line of its own" in shown.decode(), bars
