// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/topology.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "support.hpp"
#include "topology_state.hpp"

using namespace nodeshare;
using namespace nodeshare::test;

static_assert(block_of(10, 0, 3) == std::pair<std::size_t, std::size_t>{0, 3});
static_assert(block_of(10, 2, 3) == std::pair<std::size_t, std::size_t>{6, 10});
static_assert(block_of(std::numeric_limits<std::size_t>::max(), 6, 7).second ==
              std::numeric_limits<std::size_t>::max());

namespace {

/// One number from each rank of the job, in order.
std::vector<int> from_all(int mine)
{
  std::vector<int> out(static_cast<std::size_t>(world().size()));
  MPI_Allgather(&mine, 1, MPI_INT, out.data(), 1, MPI_INT, MPI_COMM_WORLD);
  return out;
}

/// Collective over the communicator. How many of its nodes are on this machine, by what the kernel says.
int nodes_here(const topology& t)
{
  const std::uint64_t mine = linux_api::sharing_domain();
  std::vector<std::uint64_t> all(static_cast<std::size_t>(t.size()));
  MPI_Allgather(&mine, 1, MPI_UINT64_T, all.data(), 1, MPI_UINT64_T, t.comm());
  int found = 0;
  for (int node = 0; node < t.nodes(); ++node) {
    found += all[static_cast<std::size_t>(t.ranks_on(node)[0])] == mine ? 1 : 0;
  }
  return found;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(topology)

BOOST_AUTO_TEST_CASE(rank_and_size_are_those_of_the_communicator)
{
  int rank = 0;
  int size = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  MPI_Comm_size(MPI_COMM_WORLD, &size);
  BOOST_CHECK_EQUAL(world().rank(), rank);
  BOOST_CHECK_EQUAL(world().size(), size);
  BOOST_CHECK(world().comm() == MPI_COMM_WORLD);
}

BOOST_AUTO_TEST_CASE(every_rank_is_on_exactly_one_node_in_ascending_order)
{
  std::vector<int> seen;
  for (int node = 0; node < world().nodes(); ++node) {
    const auto ranks = world().ranks_on(node);
    BOOST_CHECK(!ranks.empty() && std::ranges::is_sorted(ranks));
    for (const int rank : ranks) {
      BOOST_CHECK_EQUAL(world().node_of(rank), node);
    }
    seen.insert(seen.end(), ranks.begin(), ranks.end());
  }
  std::ranges::sort(seen);
  std::vector<int> all(static_cast<std::size_t>(world().size()));
  std::iota(all.begin(), all.end(), 0);
  BOOST_CHECK(seen == all);
}

BOOST_AUTO_TEST_CASE(nodes_are_numbered_by_their_lowest_rank)
{
  for (int node = 1; node < world().nodes(); ++node) {
    BOOST_CHECK_LT(world().ranks_on(node - 1)[0], world().ranks_on(node)[0]);
  }
}

BOOST_AUTO_TEST_CASE(a_rank_knows_its_place_on_its_node)
{
  const auto ranks = world().ranks_on(world().node());
  BOOST_CHECK_EQUAL(world().node(), world().node_of(world().rank()));
  BOOST_CHECK_EQUAL(world().node_size(), static_cast<int>(ranks.size()));
  BOOST_CHECK_EQUAL(ranks[static_cast<std::size_t>(world().node_rank())], world().rank());
  BOOST_CHECK_EQUAL(world().is_leader(), ranks[0] == world().rank());
  BOOST_CHECK_EQUAL(world().host(), linux_api::host_name());
}

BOOST_AUTO_TEST_CASE(a_rank_knows_how_many_nodes_are_on_its_machine)
{
  BOOST_CHECK_EQUAL(world().state().nodes_on_host, nodes_here(world()));
  const own_comm reversed(0, -world().rank());
  const nodeshare::topology backwards(reversed);
  BOOST_CHECK_EQUAL(backwards.state().nodes_on_host, nodes_here(backwards));
  const own_comm half(world().rank() % 2, world().rank());
  const nodeshare::topology some(half);
  BOOST_CHECK_EQUAL(some.state().nodes_on_host, nodes_here(some));
  BOOST_CHECK_EQUAL(nodeshare::topology(MPI_COMM_SELF).state().nodes_on_host, 1);
}

BOOST_AUTO_TEST_CASE(pretended_nodes_are_all_on_the_machine_of_their_ranks)
{
  const own_comm here_alone(static_cast<int>(linux_api::sharing_domain() % 1'000'003), world().rank());
  for (const char* placement : {"1", "2", "3,1", "2:cyclic"}) {
    const setting pretend("NODESHARE_RANKS_PER_NODE", placement);
    MPI_Comm comm = MPI_COMM_NULL;
    MPI_Comm_dup(here_alone, &comm);
    {
      const nodeshare::topology t(comm);
      BOOST_CHECK_EQUAL(t.state().nodes_on_host, t.nodes());
      BOOST_CHECK(std::string(placement) != "1" || t.state().nodes_on_host == t.size());
    }
    MPI_Comm_free(&comm);
  }
}

BOOST_AUTO_TEST_CASE(all_ranks_know_the_same_nodes)
{
  const std::vector<int> nodes = from_all(world().node());
  for (int rank = 0; rank < world().size(); ++rank) {
    BOOST_CHECK_EQUAL(world().node_of(rank), nodes[static_cast<std::size_t>(rank)]);
  }
}

BOOST_AUTO_TEST_CASE(a_lane_holds_one_rank_of_every_node)
{
  std::size_t fewest = 8;
  for (int node = 0; node < world().nodes(); ++node) {
    fewest = std::min(fewest, world().ranks_on(node).size());
  }
  BOOST_CHECK_EQUAL(world().lanes(), static_cast<int>(fewest));
  BOOST_CHECK_EQUAL(world().lane(), world().node_rank() < world().lanes() ? world().node_rank() : -1);
}

BOOST_AUTO_TEST_CASE(a_topology_is_made_once_for_a_communicator)
{
  const nodeshare::topology again(MPI_COMM_WORLD);
  BOOST_CHECK_EQUAL(&again.state(), &world().state());
  const nodeshare::topology copy = world();
  BOOST_CHECK_EQUAL(&copy.state(), &world().state());
}

BOOST_AUTO_TEST_CASE(a_duplicate_of_a_communicator_has_a_topology_of_its_own)
{
  const own_comm comm;
  const nodeshare::topology t(comm);
  BOOST_CHECK(&t.state() != &world().state());
  BOOST_CHECK(t.comm() == comm);
}

BOOST_AUTO_TEST_CASE(a_sub_communicator_has_the_nodes_of_its_ranks)
{
  const own_comm half(world().rank() % 2, world().rank());
  const nodeshare::topology t(half);
  int size = 0;
  MPI_Comm_size(half, &size);
  BOOST_CHECK_EQUAL(t.size(), size);
  check_still_works(t);
}

BOOST_AUTO_TEST_CASE(a_reversed_communicator_numbers_its_nodes_by_its_own_ranks)
{
  const own_comm reversed(0, -world().rank());
  const nodeshare::topology t(reversed);
  BOOST_CHECK_EQUAL(t.rank(), world().size() - 1 - world().rank());
  BOOST_CHECK_EQUAL(t.node_of(0), 0);
  for (int node = 1; node < t.nodes(); ++node) {
    BOOST_CHECK_LT(t.ranks_on(node - 1)[0], t.ranks_on(node)[0]);
  }
  check_still_works(t);
}

BOOST_AUTO_TEST_CASE(comm_self_is_one_rank_on_one_node)
{
  const nodeshare::topology t(MPI_COMM_SELF);
  BOOST_CHECK_EQUAL(t.size(), 1);
  BOOST_CHECK_EQUAL(t.nodes(), 1);
  BOOST_CHECK_EQUAL(t.lanes(), 1);
  BOOST_CHECK_EQUAL(t.lane(), 0);
  BOOST_CHECK((t.local_range(7) == std::pair<std::size_t, std::size_t>{0, 7}));
  check_still_works(t);
}

BOOST_AUTO_TEST_CASE(a_null_communicator_is_refused)
{
  contains(thrown<invalid_argument>([] { const nodeshare::topology t(MPI_COMM_NULL); }), "MPI_COMM_NULL");
}

BOOST_AUTO_TEST_CASE(an_inter_communicator_is_refused, *boost::unit_test::precondition(several_ranks))
{
  const int side = world().rank() == 0 ? 0 : 1;
  const own_comm mine(side, world().rank());
  MPI_Comm both = MPI_COMM_NULL;
  MPI_Intercomm_create(mine, 0, MPI_COMM_WORLD, side == 0 ? 1 : 0, 0, &both);
  contains(thrown<invalid_argument>([&] { const nodeshare::topology t(both); }), "inter-communicator");
  MPI_Comm_free(&both);
}

BOOST_AUTO_TEST_CASE(local_ranges_cover_every_row_once)
{
  const std::size_t most = std::numeric_limits<std::size_t>::max();
  for (const std::size_t count : {std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{3}, std::size_t{1000},
                                  (std::size_t{1} << 32) + 5, (std::size_t{1} << 63) + 1, most}) {
    const auto [first, last] = world().local_range(count);
    std::vector<unsigned long> all(2 * static_cast<std::size_t>(world().size()));
    const unsigned long mine[2] = {first, last};
    MPI_Allgather(mine, 2, MPI_UNSIGNED_LONG, all.data(), 2, MPI_UNSIGNED_LONG, MPI_COMM_WORLD);
    std::size_t next = 0;
    std::size_t least = most;
    std::size_t largest = 0;
    for (std::size_t rank = 0; rank < all.size() / 2; ++rank) {
      BOOST_CHECK_EQUAL(all[2 * rank], next);
      next = all[2 * rank + 1];
      least = std::min(least, next - all[2 * rank]);
      largest = std::max(largest, next - all[2 * rank]);
    }
    BOOST_CHECK_EQUAL(next, count);
    BOOST_CHECK_LE(largest - least, 1);
  }
}

BOOST_AUTO_TEST_CASE(ranks_and_nodes_that_do_not_exist_are_refused)
{
  for (const int bad : {-1, world().size()}) {
    BOOST_CHECK_THROW((void)world().node_of(bad), invalid_argument);
  }
  for (const int bad : {-1, world().nodes()}) {
    BOOST_CHECK_THROW((void)world().ranks_on(bad), invalid_argument);
  }
}

BOOST_AUTO_TEST_CASE(the_node_communicator_holds_the_ranks_of_the_node)
{
  const MPI_Comm comm = world().node_comm();
  int rank = -1;
  int size = -1;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
  BOOST_CHECK_EQUAL(rank, world().node_rank());
  BOOST_CHECK_EQUAL(size, world().node_size());
  BOOST_CHECK(comm == world().node_comm());
  check_still_works(nodeshare::topology(comm));
}

BOOST_AUTO_TEST_CASE(the_lane_communicator_holds_a_rank_of_every_node)
{
  const MPI_Comm comm = world().lane_comm();
  BOOST_CHECK_EQUAL(comm == MPI_COMM_NULL, world().lane() < 0);
  if (comm != MPI_COMM_NULL) {
    int rank = -1;
    int size = -1;
    MPI_Comm_rank(comm, &rank);
    MPI_Comm_size(comm, &size);
    BOOST_CHECK_EQUAL(rank, world().node());
    BOOST_CHECK_EQUAL(size, world().nodes());
  }
}

BOOST_AUTO_TEST_CASE(after_its_communicator_is_freed_a_topology_still_tells_what_it_knows)
{
  own_comm comm;
  const nodeshare::topology t(comm);
  comm.free();
  BOOST_CHECK_EQUAL(t.rank(), world().rank());
  BOOST_CHECK_EQUAL(t.node(), world().node());
  BOOST_CHECK_THROW((void)t.comm(), invalid_argument);
  BOOST_CHECK_THROW((void)t.node_comm(), invalid_argument);
  BOOST_CHECK_THROW((void)t.lane_comm(), invalid_argument);
}

BOOST_AUTO_TEST_CASE(hundreds_of_communicators_can_come_and_go)
{
  for (int round = 0; round < 100; ++round) {
    const own_comm comm;
    const nodeshare::topology t(comm);
    (void)node::of(t);
  }
  const own_comm comm;
  check_still_works(nodeshare::topology(comm));
}

BOOST_AUTO_TEST_SUITE_END()
