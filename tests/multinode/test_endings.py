# SPDX-License-Identifier: BSD-3-Clause
"""A rank that is killed, or a host that is gone, ends a job whose other ranks wait; nothing stays."""

import pytest

from launch import is_open_mpi

# Rank `who` never comes to a call in which the others wait; a patience of 1 s tells when they do.
SCRIPT = """
import os, signal
import nodeshare as ns

t = ns.topology()
a = ns.zeros(30 << 20, "u1")
if t.rank == {who}:
    print(f"process {{os.getpid()}} of {{t.host}}", flush=True)
    signal.pause()
else:
    {call}
"""

LOOP = """
import nodeshare as ns

a, b = ns.zeros((1000, 1000)), ns.ones((1000, 1000))
for step in range(1_000_000):
    {call}
    if step == 20 and a.topology.rank == 0:
        print("under way", flush=True)
"""


@pytest.fixture
def waiting(job):
    """Start 3 ranks, `who` of which is waited for; return the job, and that rank's process and host."""

    def start(who, call):
        running = job.start(3, SCRIPT.format(who=who, call=call), env={"NODESHARE_PATIENCE": "1"})
        assert running.wait_for(" for 1 s in ") and running.wait_for("process "), running.wait(0)
        pid, host = running.output().partition("process ")[2].split()[:3:2]
        return running, pid, host

    return start


def ended_without_a_trace(running, hosts, among):
    ended = running.wait(60, grace=20)  # launchers' own processes on other hosts end somewhat later
    assert not ended.timed_out and not ended.left, ended
    for host in among:
        kilobytes = int(hosts.run(host, "df", "--output=used", "-k", "/dev/shm").split()[-1])
        assert kilobytes < 20 << 10, hosts.run(host, "ls", "-l", "/dev/shm")  # a file of the MPI's own may stay
    return ended


@pytest.mark.parametrize(("who", "host"), [(1, "node1"), (2, "node2")])
@pytest.mark.parametrize("call", ["ns.zeros(8)", "a.bcast()", "with ns.together(a): pass"])
def test_a_rank_killed_on_one_host_ends_the_job_on_both(waiting, hosts, who, host, call):
    running, pid, there = waiting(who, call)
    assert there == host
    hosts.run(host, "kill", "-9", pid)
    assert ended_without_a_trace(running, hosts, ["node1", "node2"]).code != 0


@pytest.fixture
def losing(hosts):
    """Lose a host by `losing("poweroff", "node1")`; it is there again after the test."""
    yield lambda how, host: hosts.script("nodes.sh", how, host)
    hosts.up()


@pytest.mark.parametrize(("who", "host", "other"), [(1, "node1", "node2"), (2, "node2", "node1")])
def test_a_host_without_power_ends_the_job(waiting, hosts, losing, who, host, other):
    running, _, there = waiting(who, "ns.zeros(8)")
    assert there == host
    losing("poweroff", host)
    ended_without_a_trace(running, hosts, [other])  # with code 0, says Open MPI 5 when it has lost a host


@pytest.mark.parametrize(
    ("call", "host", "other"),
    [
        ("a.bcast()", "node1", "node2"),
        ("a.allgather()", "node2", "node1"),
        ("a.allreduce(b.array)", "node2", "node1"),
    ],
)
def test_a_host_without_power_ends_the_job_in_the_middle_of(job, hosts, losing, call, host, other):
    running = job.start(3, LOOP.format(call=call))
    assert running.wait_for("under way"), running.wait(0)
    losing("poweroff", host)
    ended_without_a_trace(running, hosts, [other])


# By the settings of environment.sh, and sooner.
@pytest.mark.skipif(not is_open_mpi(), reason="only Open MPI's mpiexec looks whether a silent host is still there")
@pytest.mark.parametrize(("call", "host", "seconds"), [("a.bcast()", "node2", None), ("a.allgather()", "node1", 2)])
def test_a_host_without_network_ends_the_job_in_the_middle_of(job, hosts, losing, call, host, seconds):
    sooner = {f"{family}_MCA_oob_tcp_keepalive_time": str(seconds) for family in ("OMPI", "PRTE") if seconds}
    running = job.start(3, LOOP.format(call=call), env=sooner)
    assert running.wait_for("under way"), running.wait(0)
    losing("unplug", host)
    ended = ended_without_a_trace(running, hosts, ["node1", "node2"])  # on both sides
    assert "lost communication" in ended.err and host in ended.err, ended
