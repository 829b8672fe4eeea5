# SPDX-License-Identifier: BSD-3-Clause
"""A rank that is interrupted or killed in the middle of reductions: the others hear of it, and the job ends."""

import re

import pytest

RANKS = pytest.mark.parametrize(("ranks", "placement"), [(2, None), (3, None), (3, "2"), (5, "2:cyclic")])

SCRIPT = """
import os, signal, sys, threading
import numpy as np
import nodeshare as ns

t = ns.topology()
a = ns.zeros(300_000)
mine = np.ones(300_000, "f4")
counts = ns.zeros(4, int)

def interrupted(*ignored):
    raise TimeoutError("enough")

signal.signal(signal.SIGALRM, interrupted)
if t.rank == 1:
    if {kill}:
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGKILL)).start()
    else:
        signal.setitimer(signal.ITIMER_REAL, 0.3)
try:
    while True:
        counts.add([0, 3], 1)
        a.allreduce(mine)
        a.allreduce_copies("max")
except Exception as error:
    print(f"rank {{t.rank}}: {{type(error).__name__}}: {{error}}\\n", end="", flush=True)
    sys.exit(1)
"""


@RANKS
def test_a_rank_that_is_interrupted_in_a_reduction_raises_and_the_others_hear_of_it(job, ranks, placement):
    env = {"NODESHARE_RANKS_PER_NODE": placement} if placement else {}
    ended = job(ranks, SCRIPT.format(kill=False), env=env)
    assert not ended.timed_out and not ended.left and ended.code != 0, ended
    said = dict(re.findall(r"^rank (\d+): (.*)$", ended.out, re.M))
    assert said.pop("1", "TimeoutError: enough") == "TimeoutError: enough", ended
    assert all(text.startswith("PeerError: ") and "rank 1 on " in text for text in said.values()), ended


@pytest.mark.slow
@RANKS
def test_a_rank_that_is_killed_in_a_reduction_ends_the_job(job, ranks, placement):
    env = {"NODESHARE_RANKS_PER_NODE": placement} if placement else {}
    ended = job(ranks, SCRIPT.format(kill=True), env=env)
    assert not ended.timed_out and not ended.left and ended.code != 0, ended
