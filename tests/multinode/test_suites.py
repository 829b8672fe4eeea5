# SPDX-License-Identifier: BSD-3-Clause
"""The tests in which nodes matter, over two hosts that share no memory; elsewhere nodes are pretended."""

import sys
from pathlib import Path

import pytest

from launch import Job
from runner import count

root = Path(__file__).resolve().parents[2]
CPP = "agreement node replicate shared_array topology work".split()
PYTHON = "creating errors io mismatch rows together topology work".split()


@pytest.fixture(params=[False, True], ids=["2+1", "cyclic"])
def on_hosts(request, hosts, tmp_path, record_property):
    """Run a program on 3 ranks whose last line says how many cases passed."""

    def run(*words):
        env = {"NODESHARE_TEST_FOLDER": str(tmp_path), "PYTHONFAULTHANDLER": "1"}
        ended = Job([*hosts.mpiexec(3, cyclic=request.param), *words], env, str(root)).wait(120)
        cases = count(ended.out, ended.code)
        told = "\n".join((ended.out + ended.err).splitlines()[-80:])
        assert not (ended.timed_out or ended.left or cases["failed"]), f"{ended.left}\n{told}"
        assert cases["passed"], told
        record_property("cases", cases["passed"])

    return run


def test_these_are_two_hosts(job):
    ended = job(
        3,
        """
        import os
        import nodeshare as ns
        t = ns.topology()
        print(t.rank, t.node, t.host, os.stat("/dev/shm").st_dev, flush=True)
        """,
    )
    assert ended.code == 0, ended.err
    places = [line.split()[1:] for line in sorted(ended.out.splitlines())]
    assert [place[:2] for place in places] == [["0", "node1"], ["0", "node1"], ["1", "node2"]]
    assert places[0] == places[1] and places[0][2] != places[2][2]


def test_ranks_can_take_turns_among_the_hosts(hosts, tmp_path):
    ended = Job([*hosts.mpiexec(3, cyclic=True), "sh", "-c", "hostname > $0$OMPI_COMM_WORLD_RANK$PMI_RANK", f"{tmp_path}/"]).wait(60)
    assert ended.code == 0, ended.err
    assert [(tmp_path / str(rank)).read_text() for rank in range(3)] == ["node1\n", "node2\n", "node1\n"]


@pytest.mark.parametrize("suite", CPP)
def test_cpp(on_hosts, suite):
    on_hosts(f"{sys.prefix}/build/tests/cpp/nodeshare_tests", f"--run_test={suite}", "--color_output=no")


@pytest.mark.parametrize("suite", PYTHON)
def test_python(on_hosts, suite):
    on_hosts(sys.executable, "-m", "pytest", "-q", "--color=no", f"tests/python/test_{suite}.py")
