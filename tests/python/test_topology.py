# SPDX-License-Identifier: BSD-3-Clause
"""Who shares memory with whom."""

import os
import pathlib
import threading

import numpy as np
import pytest
from mpi4py import MPI
from support import LAST, alive, outcome, told, world

import nodeshare as ns


def placement(size):
    """Return the node of each rank of one host, as the environment asks for."""
    setting = os.environ.get("NODESHARE_RANKS_PER_NODE")
    if not setting:
        return [0] * size
    counts, _, cyclic = setting.partition(":")
    counts = [int(count) for count in counts.split(",")]
    nodes = []
    while len(nodes) < size:
        node = nodes[-1] + 1 if nodes else 0
        nodes += [node] * counts[node % len(counts)]
    return [rank % (nodes[size - 1] + 1) for rank in range(size)] if cyclic else nodes[:size]


def one_host():
    return len(set(world.allgather(MPI.Get_processor_name()))) == 1


def test_a_topology_knows_this_rank_and_the_communicator():
    t = ns.topology()
    assert (t.rank, t.size) == (world.rank, world.size)
    assert MPI.Comm.Compare(t.comm, MPI.COMM_WORLD) == MPI.IDENT
    assert t.host and "\n" not in t.host


def test_nodes_partition_the_ranks_and_are_numbered_by_their_lowest():
    t = ns.topology()
    nodes = [t.ranks_on(node) for node in range(t.nodes)]
    assert sorted(sum(nodes, [])) == list(range(t.size))
    assert nodes == sorted(nodes) and all(ranks == sorted(ranks) and ranks for ranks in nodes)
    assert all(t.node_of(rank) == node for node, ranks in enumerate(nodes) for rank in ranks)
    assert (t.node, t.node_size) == (t.node_of(t.rank), len(nodes[t.node]))
    assert nodes[t.node][t.node_rank] == t.rank
    assert t.is_leader == (t.rank == nodes[t.node][0])


@pytest.mark.parametrize("name", ["rank", "node", "lane", "host", "comm", "other"])
def test_a_topology_cannot_be_changed(name):
    before = repr(ns.topology())
    raised = outcome(lambda: setattr(ns.topology(), name, 1))
    assert isinstance(raised, AttributeError) and name in str(raised)
    assert repr(ns.topology()) == before


def test_all_ranks_see_the_same_nodes():
    t = ns.topology()
    seen = world.allgather(([t.ranks_on(node) for node in range(t.nodes)], t.nodes, t.lanes))
    assert all(one == seen[0] for one in seen)


def test_pretend_nodes_are_those_of_the_setting():
    if not one_host():
        pytest.skip("ranks on several hosts: the setting counts on each")
    t = ns.topology()
    assert [t.node_of(rank) for rank in range(t.size)] == placement(t.size)


def test_a_node_shares_its_memory_and_others_have_their_own():
    t = ns.topology()
    a = ns.zeros(1, int)
    if t.is_leader:
        a[0] = t.node + 1
    a.sync()
    assert world.allgather(int(a[0])) == [t.node_of(rank) + 1 for rank in range(t.size)]


def test_a_lane_holds_one_rank_of_every_node_in_their_order():
    t = ns.topology()
    assert t.lanes == min(8, *(len(t.ranks_on(node)) for node in range(t.nodes)), 8)
    assert t.lane == (t.node_rank if t.node_rank < t.lanes else None)
    lane = t.lane_comm
    if t.lane is None:
        assert lane == MPI.COMM_NULL
    else:
        assert lane.allgather(t.rank) == [t.ranks_on(node)[t.lane] for node in range(t.nodes)]


def test_the_node_communicator_holds_the_ranks_of_the_node():
    t = ns.topology()
    assert t.node_comm.allgather(t.rank) == t.ranks_on(t.node)
    assert t.node_comm.rank == t.node_rank
    assert MPI.Comm.Compare(t.node_comm, t.node_comm) == MPI.IDENT


def test_a_node_can_do_its_own_thing():
    t = ns.topology()
    own = ns.topology(t.node_comm)
    assert (own.rank, own.size) == (t.node_rank, t.node_size)
    a = ns.full(3, t.node, comm=t.node_comm)
    assert a.array.tolist() == [t.node] * 3


def test_asking_again_is_local():
    first = ns.topology()
    for _ in range(world.rank):  # never, once, twice ...
        assert ns.topology() == first and hash(ns.topology()) == hash(first)
    assert ns.topology(first) is first
    assert ns.topology(MPI.COMM_WORLD) == first


def test_communicators_of_the_same_ranks_have_topologies_of_their_own():
    other = MPI.COMM_WORLD.Dup()
    assert ns.topology(other) != ns.topology()
    other.Free()


@pytest.mark.parametrize("colours", [1, 2, 3])
def test_sub_communicators_have_nodes_of_their_own_ranks(colours):
    comm = MPI.COMM_WORLD.Split(world.rank % colours, world.rank)
    t = ns.topology(comm)
    assert (t.rank, t.size) == (comm.rank, comm.size)
    hosts = comm.allgather(MPI.Get_processor_name())
    assert all(len({hosts[rank] for rank in t.ranks_on(node)}) == 1 for node in range(t.nodes))
    if len(set(hosts)) == 1:
        assert [t.node_of(rank) for rank in range(t.size)] == placement(t.size)
    comm.Free()


def test_nodes_are_numbered_in_the_ranks_of_their_communicator():
    comm = MPI.COMM_WORLD.Split(0, -world.rank)
    t = ns.topology(comm)
    assert t.rank == LAST - world.rank
    assert t.node_of(0) == 0
    assert [t.ranks_on(node)[0] for node in range(t.nodes)] == sorted(t.ranks_on(node)[0] for node in range(t.nodes))
    comm.Free()


def test_comm_self_is_one_rank_on_one_node():
    t = ns.topology(MPI.COMM_SELF)
    assert (t.rank, t.size, t.node, t.nodes, t.node_rank, t.node_size, t.lane, t.lanes) == (0, 1, 0, 1, 0, 1, 0, 1)


@pytest.mark.parametrize("n", [0, 1, 2, 7, 1000003, np.int64(12), 2**62])
def test_local_ranges_are_the_documented_blocks(n):
    size = world.size
    expected = [(int(n) * rank // size, int(n) * (rank + 1) // size) for rank in range(size)]
    assert world.allgather(ns.local_range(n)) == expected


def test_a_local_range_counts_in_its_communicator():
    assert ns.local_range(5, MPI.COMM_SELF) == (0, 5)
    assert ns.local_range(7, ns.topology()) == ns.local_range(7)


@pytest.mark.parametrize("n", [-1, -(2**40), 2**64, 2**70, 2.5, "7"])
def test_a_local_range_of_an_impossible_number_is_refused(n):
    told(outcome(lambda: ns.local_range(n)), ns.InvalidArgument, n)


@pytest.mark.parametrize("comm", ["COMM_WORLD", 0, object, MPI.COMM_WORLD.Get_group(), [MPI.COMM_WORLD]], ids=str)
@pytest.mark.parametrize("call", [ns.topology, lambda comm: ns.zeros(1, comm=comm)], ids=["topology", "zeros"])
def test_what_is_no_communicator_is_refused(comm, call):
    told(outcome(lambda: call(comm)), ns.InvalidArgument, type(comm).__name__, "communicator")


@pytest.mark.parametrize("call", [ns.topology, lambda comm: ns.zeros(1, comm=comm)], ids=["topology", "zeros"])
def test_a_null_communicator_is_refused(call):
    told(outcome(lambda: call(MPI.COMM_NULL)), ns.InvalidArgument, "MPI_COMM_NULL")


@pytest.mark.ranks(2, 3, 5)
def test_an_inter_communicator_is_refused():
    half = MPI.COMM_WORLD.Split(world.rank % 2, world.rank)
    inter = half.Create_intercomm(0, MPI.COMM_WORLD, 1 - world.rank % 2, tag=3)
    for call in (lambda: ns.topology(inter), lambda: ns.zeros(1, comm=inter), lambda: ns.work(3, comm=inter)):
        told(outcome(call), ns.InvalidArgument, "inter-communicator", "MPI_Intercomm_merge")
    inter.Free()
    half.Free()


def test_after_a_communicator_was_freed_views_and_sync_still_work():
    comm = MPI.COMM_WORLD.Dup()
    t = ns.topology(comm)
    a = ns.zeros(world.size, int, comm=comm)
    view = a.array
    comm.Free()
    view[world.rank] = world.rank + 1
    a.sync()
    mine = t.ranks_on(t.node)
    assert [view[rank] for rank in mine] == [rank + 1 for rank in mine]
    assert (t.rank, t.size, t.node_of(LAST)) == (world.rank, world.size, ns.topology().node_of(LAST))


def test_after_a_communicator_was_freed_calls_over_it_are_refused():
    comm = MPI.COMM_WORLD.Dup()
    t = ns.topology(comm)
    a = ns.zeros(3, comm=comm)
    comm.Free()
    calls = [
        lambda: ns.zeros(3, comm=comm),
        lambda: ns.zeros(3, comm=t),
        lambda: ns.array([1], comm=t),
        lambda: ns.zeros_like(a),
        lambda: ns.work(3, comm=t),
        lambda: a.bcast(),
        lambda: a.set(1),
        lambda: a.allgather(),
        lambda: ns.together(a).__enter__(),
        lambda: t.node_comm,
        lambda: t.lane_comm,
    ]
    errors = [outcome(call) for call in calls]
    for error in errors[1:]:
        told(error, ns.InvalidArgument, "freed")
    told(errors[0], ns.InvalidArgument)  # mpi4py makes the freed handle COMM_NULL
    b = ns.ones(2)
    assert b.array.sum() == 2


def test_a_freed_communicator_leaves_nothing_behind():
    ns.zeros(1)
    before = alive()
    for _ in range(60):
        comm = MPI.COMM_WORLD.Dup()
        ns.zeros(1, comm=comm)
        comm.Free()
    assert alive() == before


def test_no_such_rank_or_node_is_an_error():
    t = ns.topology()
    for rank in (-1, t.size):
        told(outcome(lambda rank=rank: t.node_of(rank)), ns.InvalidArgument, rank, f"0 to {t.size - 1}")
    for node in (-1, t.nodes):
        told(outcome(lambda node=node: t.ranks_on(node)), ns.InvalidArgument, node, f"0 to {t.nodes - 1}")


def test_the_text_of_a_topology_is_local_and_says_where_the_rank_is():
    t = ns.topology()
    if t.rank == LAST:
        assert f"rank {t.rank} of {t.size}" in repr(t) and f"node {t.node} of {t.nodes}" in repr(t)
        assert t.host in repr(t) and "\n" not in repr(t)


def test_two_threads_on_two_communicators():
    if MPI.Query_thread() < MPI.THREAD_MULTIPLE:
        pytest.skip("this MPI gives no MPI_THREAD_MULTIPLE")
    comms = [MPI.COMM_WORLD.Dup() for _ in range(2)]
    arrays = {0: [], 1: []}

    def make(which):
        for value in range(10):
            arrays[which].append(ns.full(5, 100 * which + value, comm=comms[which]))

    threads = [threading.Thread(target=make, args=(which,)) for which in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    made = {which: [a.array.tolist() for a in arrays[which]] for which in arrays}
    arrays.clear()
    for comm in comms:
        comm.Free()
    assert made == {which: [[100 * which + value] * 5 for value in range(10)] for which in range(2)}


# --- NUMA domains ---------------------------------------------------------------------------------------------------


def domains():
    """Return how many NUMA domains with processors this machine has."""
    lists = pathlib.Path("/sys/devices/system/node").glob("node[0-9]*/cpulist")
    return sum(one.read_text().strip() != "" for one in lists)


def test_arrays_can_have_a_copy_per_numa_domain():
    if domains() > 1:
        pytest.skip("with several NUMA domains each rank has to be bound: see the C++ tests")
    here, numa = ns.topology(), ns.topology(per="numa")
    assert (here.per, numa.per) == ("node", "numa") and here != numa == ns.topology(per="numa")
    assert (numa.node, numa.nodes, numa.node_size) == (here.node, here.nodes, here.node_size)
    assert "NUMA domain" in repr(numa) and "NUMA domain" not in repr(here)
    a = ns.full(7, 2.5, comm=numa)
    a.local[...] += 1
    a.allgather()
    assert a.array.tolist() == [3.5] * 7 and a.topology is not here and "NUMA domain" in repr(a)
    assert ns.array(np.arange(3), comm=numa).array.tolist() == [0, 1, 2]
    assert ns.from_parts([1.5], comm=numa).array.tolist() == [1.5] * world.size


def test_another_per_is_refused():
    told(outcome(lambda: ns.topology(per="core")), ns.InvalidArgument, "'core'", "'numa'")
    told(outcome(lambda: ns.topology(ns.topology(), per="numa")), ns.InvalidArgument, "NUMA domain")
