# SPDX-License-Identifier: BSD-3-Clause
"""`python -m nodeshare info` as it is started: alone, under a launcher, in a wrong way, where nothing can be shared."""

import json
import sys

import pytest

from launch import Job, mpiexec


def command(ranks, *words, env=None):
    """Run a command of the package to its end."""
    launcher = mpiexec(ranks) if ranks else []
    ended = Job([*launcher, sys.executable, "-m", "nodeshare", *words], env).wait(60)
    assert not ended.timed_out and not ended.left
    return ended


@pytest.mark.parametrize("ranks", [0, 3])
def test_json_is_one_document(ranks):
    ended = command(ranks, "info", "--json", env={"NODESHARE_RANKS_PER_NODE": "2"})
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    assert report["ranks"] == max(ranks, 1)
    assert [node["ranks"] for node in report["nodes"]] == ([[0, 1], [2]] if ranks else [[0]])
    assert report["settings"]["NODESHARE_RANKS_PER_NODE"] == "2"


@pytest.mark.parametrize("ranks", [0, 3])
def test_the_table_is_printed_once(ranks):
    ended = command(ranks, "info")
    assert ended.code == 0, ended.err
    assert ended.out.count("node 0 ") == 1


def test_the_table_is_printed_where_output_is_ascii():
    ended = command(0, "info", env={"PYTHONIOENCODING": "ascii", "NODESHARE_MEMORY": "\N{BULLET}"})
    assert ended.code == 0, ended.err
    assert "NODESHARE_MEMORY=?" in ended.out and ended.out.isascii()


@pytest.mark.parametrize("words", [["info", "--jsn"], ["info", "more"], ["inform"], []])
@pytest.mark.parametrize("ranks", [0, 3])
def test_what_is_no_option_is_said_once(ranks, words):
    ended = command(ranks, *words)
    assert ended.code == 2 and ended.out == ""
    assert ended.err.count("python -m nodeshare: error:") + ended.err.count("python -m nodeshare info: error:") == 1


def test_help_is_said_once():
    ended = command(3, "info", "--help")
    assert ended.code == 0 and ended.out.count("--json") == 2  # in the usage and in the list


LIMITED = """
    import json, resource
    from mpi4py import MPI
    from nodeshare import info

    if MPI.COMM_WORLD.rank == LIMITED:
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    report = info.gather()
    if report is not None:
        print(json.dumps(report))
"""


@pytest.mark.parametrize("ranks", [0, 2])
def test_limits_that_leave_nothing_to_share_are_reported(job, ranks):
    ended = job(ranks, LIMITED.replace("LIMITED", "0"))
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    assert "rank 0 on " in report["trouble"] and "file" in report["trouble"].lower()
    (node,) = report["nodes"]
    assert node["kind"] is None and node["ranks"] == list(range(max(ranks, 1)))
    assert node["limits"]["file_size"] == 65536


def test_what_keeps_one_rank_from_windows_is_named(job):
    ended = job(2, LIMITED.replace("LIMITED", "1"), env={"NODESHARE_MEMORY": "auto"})
    assert ended.code == 0, ended.err
    report = json.loads(ended.out)
    (node,) = report["nodes"]
    assert report["trouble"] is None and node["kind"] == "memfd"
    assert node["why"].startswith("no window: rank 1: its limit of file size")
    assert node["limits"]["file_size"] == 65536
