# SPDX-License-Identifier: BSD-3-Clause
"""The tests in which nodes matter, over hosts that share no memory; elsewhere nodes are pretended."""

import re
import sys
from pathlib import Path

import pytest

from launch import Job
from runner import LINES_OF_A_FAILURE, count

root = Path(__file__).resolve().parents[2]
CPP = "agreement checksum node npy reduce replicate shared_array work".split()
PYTHON = (
    "creating errors from_function from_parts from_source io mismatch reductions rows share together topology work"
).split()
CYCLIC = ["replicate", "reduce", "shared_array", "work"], ["rows", "reductions", "together", "topology", "work"]
TRANSFERS = ["replicate", "reduce"], ["rows", "reductions"]

# How many ranks each host gets, and whether in turn; and the C++ suites and Python files that run so.
PLACEMENTS = {
    "2+1": (dict(ranks=3), (CPP, PYTHON)),
    "2+1 in turn": (dict(ranks=3, cyclic=True), CYCLIC),
    "2+2": (dict(ranks=4, slots=(2, 2)), (TRANSFERS[0], "from_parts io rows share".split())),
    "3+1": (dict(ranks=4, slots=(3, 1)), TRANSFERS),
    "2+1+1": (dict(ranks=4, slots=(2, 1, 1)), (TRANSFERS[0], [])),
    "2+2+1 in turn": (dict(ranks=5, slots=(1, 1, 1), cyclic=True), TRANSFERS),
}


def test_these_are_two_hosts(job):
    ended = job(
        3,
        """
        import os
        import nodeshare as ns
        t = ns.topology()
        print(f"rank {t.rank} is on {t.node} {t.host} {os.stat('/dev/shm').st_dev}", flush=True)
        """,
    )
    assert ended.code == 0, ended.err
    places = [place for _, *place in sorted(re.findall(r"rank (\d) is on (\d) (\w+) (\d+)", ended.out))]
    assert [place[:2] for place in places] == [["0", "node1"], ["0", "node1"], ["1", "node2"]], ended.out
    assert places[0] == places[1] and places[0][2] != places[2][2]


@pytest.mark.parametrize(
    ("placement", "expected"),
    [("2+1 in turn", "121"), ("3+1", "1112"), ("2+1+1", "1123"), ("2+2+1 in turn", "12312")],
)
def test_ranks_are_placed_among_the_hosts(hosts, tmp_path, placement, expected):
    script = "hostname > $0/$OMPI_COMM_WORLD_RANK$PMI_RANK"
    words, _ = PLACEMENTS[placement]
    ended = Job([*hosts.mpiexec(**words), "sh", "-c", script, str(tmp_path)]).wait(60)
    assert ended.code == 0, ended.err
    assert [(tmp_path / str(rank)).read_text() for rank in range(len(expected))] == [f"node{k}\n" for k in expected]


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_suites_pass(hosts, tmp_path, record_property, placement):
    where, (cpp, python) = PLACEMENTS[placement]
    program = [f"{sys.prefix}/build/tests/cpp/nodeshare_tests", "--color_output=no", f"--run_test={','.join(cpp)}"]
    files = [f"tests/python/test_{name}.py" for name in python]
    passed = 0
    for words in [program] + [[sys.executable, "-m", "pytest", "-q", "--color=no", "-m", "not slow", *files]] * bool(
        files
    ):
        env = {"NODESHARE_TEST_FOLDER": str(tmp_path), "PYTHONFAULTHANDLER": "1"}
        ended = Job([*hosts.mpiexec(**where), *words], env, str(root)).wait(400)
        cases = count(ended.out, ended.code)
        told = "\n".join((ended.out + ended.err).splitlines()[-LINES_OF_A_FAILURE:])
        if ended.timed_out or ended.left or cases["failed"] or not cases["passed"]:
            pytest.fail(f"{told}\nleft behind: {ended.left}", pytrace=False)
        passed += cases["passed"]
    record_property("cases", passed)
