# SPDX-License-Identifier: BSD-3-Clause
"""What `python -m nodeshare info` finds on the nodes of the job."""

import io
import json
import os
import resource

from mpi4py import MPI
from rich.console import Console
from support import world

import nodeshare as ns
from nodeshare import info


def gathered(comm=None):
    """Collective. The report, on all ranks."""
    return world.bcast(info.gather(comm))


def shown(report):
    """Return the table's text, each row on a line of its own."""
    out = io.StringIO()
    Console(file=out, width=2000, markup=False, highlight=False).print(info.table(report))
    return out.getvalue()


def test_rank_0_alone_gets_the_report():
    assert (info.gather() is None) == (world.rank != 0)


def test_the_nodes_are_those_of_the_topology():
    t = ns.topology()
    report = gathered()
    assert report["ranks"] == t.size and report["trouble"] is None
    assert [node["node"] for node in report["nodes"]] == list(range(t.nodes))
    assert [node["ranks"] for node in report["nodes"]] == [t.ranks_on(node) for node in range(t.nodes)]
    assert report["nodes"][t.node]["host"] == t.host


def test_a_communicator_of_one_rank_is_one_node():
    report = info.gather(MPI.COMM_SELF)
    assert report["ranks"] == 1 and len(report["nodes"]) == 1
    assert report["nodes"][0]["kind"] == "memfd" and report["nodes"][0]["why"] == "the node has one rank"


def test_the_kind_of_memory_is_that_of_arrays():
    a = ns.zeros(10)
    node = gathered()["nodes"][a.topology.node]
    assert node["kind"] == next(entry.kind for entry in ns.memory().arrays if entry.made == a._segment.description)
    assert node["why"]
    setting = os.environ.get("NODESHARE_MEMORY", "auto")
    if a.topology.node_size > 1 and setting != "auto":
        assert node["why"] == f"NODESHARE_MEMORY={setting}"
    if node["kind"] != "memfd":
        assert node["windows"] in node["shared_memory"]


def test_the_lowest_limit_of_a_node_s_ranks_counts():
    t = ns.topology()
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    try:
        if hard != 0:
            resource.setrlimit(resource.RLIMIT_CORE, (4096 * (1 + world.rank), hard))
        mine = resource.getrlimit(resource.RLIMIT_CORE)[0]
        report = gathered()
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    assert report["nodes"][t.node]["limits"]["core"] == min(t.node_comm.allgather(mine))


def test_processors_are_told_for_each_rank():
    t = ns.topology()
    node = gathered()["nodes"][t.node]
    assert node["processors"][str(t.rank)] == sorted(os.sched_getaffinity(0))
    assert list(node["processors"]) == [str(rank) for rank in t.ranks_on(t.node)]
    if t.nodes == 1 and all(processors == list(range(os.cpu_count())) for processors in node["processors"].values()):
        assert node["bound"] is False


def test_json_carries_the_report():
    report = gathered()
    assert json.loads(json.dumps(report)) == report


def test_bytes_are_integers_and_free_is_no_more_than_there_is():
    for node in gathered()["nodes"]:
        for space in (node["memory"], node["shared_memory"]["/dev/shm"] or {"total": None, "free": None}):
            assert space["total"] is None or 0 <= space["free"] <= space["total"]
        group = node["cgroup"]
        assert group is None or 0 <= group["headroom"] <= group["limit"]


def test_the_table_tells_each_node_s_host_and_memory():
    text = shown(gathered())
    for node in range(ns.topology().nodes):
        assert f"node {node} " in text
    assert text.count(ns.topology().host) >= 1
    assert text.count("/dev/shm") >= ns.topology().nodes
    assert ns.__version__ in text


def test_ranges_of_ranks_and_processors_are_short():
    node = {"bound": True, "processors": {"0": [0, 1], "1": [2, 3, 8], "2": [0, 1], "3": [0, 1]}}
    assert info._binding(node) == "ranks 0, 2-3 on 0-1, rank 1 on 2-3, 8"
    node["bound"] = False
    assert info._binding(node).startswith("not bound: ")


def test_a_setting_that_is_refused_is_trouble_not_an_error(monkeypatch):
    monkeypatch.setenv("NODESHARE_MEMORY", "shm")
    comm = world.Dup()
    report = gathered(comm)
    comm.Free()
    assert "NODESHARE_MEMORY=shm" in report["trouble"] and report["ranks"] == world.size
    assert report["settings"]["NODESHARE_MEMORY"] == "shm"
    assert [rank for node in report["nodes"] for rank in node["ranks"]] == list(range(world.size))
    assert all(node["kind"] is None for node in report["nodes"])
    assert "none can be made" in shown(report)
