# SPDX-License-Identifier: BSD-3-Clause
"""A rank that ends, in whatever way, leaves nobody waiting: the others get an error that names it and says how."""

import re

import pytest

# Rank `who` ends before the others come to a collective call; they say what they were told, and end well.
SCRIPT = """
import os, sys
import nodeshare as ns
from mpi4py import MPI

rank = MPI.COMM_WORLD.rank
a = ns.zeros(5)
if rank == {who}:
    {end}
else:
    try:
        {call}
    except ns.Error as error:
        print(f"rank {{rank}}: {{type(error).__name__}}: {{error}}", flush=True)
    else:
        print(f"rank {{rank}} was told nothing", flush=True)
"""

PLACES = [(2, None), (3, None), (3, "2")]
UNEVEN = (5, "3,1")


def told(ended, ranks, who, how):
    said = re.split(r"(?=rank \d+(?:: | was told))", ended.out)  # a launcher may mix ranks' lines
    for rank in range(ranks):
        if rank != who:
            lines = [line for line in said if re.match(f"rank {rank}(: | was told)", line)]
            assert len(lines) == 1, ended.out + ended.err
            assert lines[0].startswith(f"rank {rank}: PeerError: rank {who} on "), lines[0]
            assert how in lines[0] and "zeros(shape=(7,)" in lines[0] and "script0.py:" in lines[0], lines[0]


ENDS = [
    ('raise RuntimeError("boom")', "has ended (RuntimeError: boom at script0.py:9)"),
    ("sys.exit(0)", "has ended (the program's end)"),
]
FINALIZE = ("MPI.Finalize()", "has ended (MPI_Finalize)")  # from within it no message goes to other nodes


@pytest.mark.parametrize("who", ["first", "last"])
@pytest.mark.parametrize(
    ("ranks", "placement", "end", "how"),
    [
        *((*place, *end) for place in PLACES for end in ENDS),
        *(pytest.param(*UNEVEN, *end, marks=pytest.mark.slow) for end in ENDS),
        *[(2, None, *FINALIZE), (3, None, *FINALIZE)],
    ],
)
def test_a_rank_that_ends_is_named_to_all_others(job, ranks, placement, end, how, who):
    rank = 0 if who == "first" else ranks - 1
    env = {"NODESHARE_RANKS_PER_NODE": placement} if placement else {}
    ended = job(ranks, SCRIPT.format(who=rank, end=end, call="ns.zeros(7)"), env=env)
    told(ended, ranks, rank, how)


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_rank_that_is_gone_without_a_word_is_named(job, ranks):
    # the launcher may end the job as soon as it sees the rank gone; then nobody is left to be told
    ended = job(ranks, SCRIPT.format(who=1, end="os._exit(0)", call="ns.zeros(7)"), timeout=30)
    assert "was told nothing" not in ended.out
    assert ended.seconds < 30


@pytest.mark.parametrize("ranks", [2, 3])
def test_a_killed_rank_ends_the_job(job, ranks):
    ended = job(ranks, SCRIPT.format(who=1, end="os.kill(os.getpid(), 9)", call="ns.zeros(7)"), timeout=30)
    assert ended.code != 0
    assert "was told nothing" not in ended.out


@pytest.mark.parametrize(("ranks", "placement"), [*PLACES, pytest.param(*UNEVEN, marks=pytest.mark.slow)])
def test_sync_on_one_node_names_a_rank_that_ended(job, ranks, placement):
    script = SCRIPT.format(who=1, end='raise RuntimeError("boom")', call="a.sync(); ns.zeros(7)")
    env = {"NODESHARE_RANKS_PER_NODE": placement} if placement else {}
    ended = job(ranks, script, env=env)
    assert "was told nothing" not in ended.out
    assert ended.out.count("PeerError: rank ") == ranks - 1, ended.out + ended.err
    assert "rank 0: PeerError: rank 1 on" in ended.out and "RuntimeError: boom" in ended.out


@pytest.mark.parametrize("ranks", [2, 3])
def test_the_first_call_of_all_on_one_rank_only_is_told_that_the_others_ended(job, ranks):
    ended = job(
        ranks,
        """
        import nodeshare as ns
        from mpi4py import MPI
        if MPI.COMM_WORLD.rank == 0:
            try:
                ns.zeros(3)
            except ns.PeerError as error:
                print(f"told: {error}", flush=True)
        """,
    )
    told = re.search(r"told: rank (\d+) of MPI_COMM_WORLD has ended \(the program's end\)", ended.out)
    assert told and 1 <= int(told[1]) < ranks, ended.out + ended.err
    assert "script0.py:6" in ended.out and "if rank == 0" in ended.out


def test_a_wait_beyond_patience_is_reported_once_a_node_with_who_waits_and_who_is_missing(job):
    ended = job(
        3,
        """
        import time
        import nodeshare as ns
        from mpi4py import MPI
        a = ns.zeros(5)
        if MPI.COMM_WORLD.rank == 1:
            time.sleep(2.5)
        a.sync()
        """,
        env={"NODESHARE_PATIENCE": "1"},
    )
    assert ended.code == 0
    lines = [line for line in ended.err.splitlines() if line.startswith("nodeshare: a wait is long")]
    assert len(lines) in (1, 2), ended.err  # after 1 s, and after 2
    assert "missing: rank 1 on" in lines[0] and "sync(" in lines[0] and "script0.py:8" in lines[0], lines[0]


@pytest.mark.parametrize(
    ("ranks", "placement", "late", "waits"),
    [
        (3, "2", 2, {0: "rank 2 on node 1"}),
        (4, "2", 3, {0: "a rank of node 1", 2: "rank 3 on"}),
        pytest.param(*(5, "2", 4, {0: "a rank of another node", 2: "a rank of another node"}), marks=pytest.mark.slow),
    ],
)
def test_a_long_wait_for_another_node_names_that_node_and_not_the_leader_which_waits_itself(
    job, ranks, placement, late, waits
):
    ended = job(
        ranks,
        f"""
        import time
        import nodeshare as ns
        from mpi4py import MPI
        a = ns.zeros(5)
        if MPI.COMM_WORLD.rank == {late}:
            time.sleep(2.8)
        ns.zeros(8)
        """,
        env={"NODESHARE_PATIENCE": "1", "NODESHARE_RANKS_PER_NODE": placement},
    )
    assert ended.code == 0
    told = re.findall(
        r"^nodeshare: a wait is long: rank (\d+) on .* s in zeros\(.*script0.py:8.*; missing: (.*)$", ended.err, re.M
    )
    assert len(told) == ended.err.count("nodeshare: "), ended.err
    assert {int(rank) for rank, _ in told} == set(waits), ended.err
    for rank, missing in told:
        assert missing.startswith(waits[int(rank)]), ended.err
