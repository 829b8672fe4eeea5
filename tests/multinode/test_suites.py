# SPDX-License-Identifier: BSD-3-Clause
"""The tests in which nodes matter, over two hosts that share no memory; elsewhere nodes are pretended."""

import re
import sys
from pathlib import Path

import pytest

from launch import Job
from runner import LINES_OF_A_FAILURE, count

root = Path(__file__).resolve().parents[2]
BLOCK = (
    "cpp/agreement cpp/node cpp/replicate cpp/shared_array cpp/work python/creating python/errors python/io "
    "python/mismatch python/rows python/together python/topology python/work"
).split()
CYCLIC = "cpp/replicate cpp/shared_array cpp/work python/rows python/together python/topology python/work".split()


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


def test_ranks_can_take_turns_among_the_hosts(hosts, tmp_path):
    script = "hostname > $0/$OMPI_COMM_WORLD_RANK$PMI_RANK"
    ended = Job([*hosts.mpiexec(3, cyclic=True), "sh", "-c", script, str(tmp_path)]).wait(60)
    assert ended.code == 0, ended.err
    assert [(tmp_path / str(rank)).read_text() for rank in range(3)] == ["node1\n", "node2\n", "node1\n"]


@pytest.mark.parametrize(
    ("order", "suite"), [*(("block", suite) for suite in BLOCK), *(("cyclic", suite) for suite in CYCLIC)]
)
def test_suite(hosts, tmp_path, record_property, order, suite):
    kind, _, name = suite.partition("/")
    if kind == "cpp":
        words = [f"{sys.prefix}/build/tests/cpp/nodeshare_tests", f"--run_test={name}", "--color_output=no"]
    else:
        words = [sys.executable, "-m", "pytest", "-q", "--color=no", f"tests/python/test_{name}.py"]
    env = {"NODESHARE_TEST_FOLDER": str(tmp_path), "PYTHONFAULTHANDLER": "1"}
    ended = Job([*hosts.mpiexec(3, cyclic=order == "cyclic"), *words], env, str(root)).wait(120)
    cases = count(ended.out, ended.code)
    told = "\n".join((ended.out + ended.err).splitlines()[-LINES_OF_A_FAILURE:])
    if ended.timed_out or ended.left or cases["failed"] or not cases["passed"]:
        pytest.fail(f"{told}\nleft behind: {ended.left}", pytrace=False)
    record_property("cases", cases["passed"])
