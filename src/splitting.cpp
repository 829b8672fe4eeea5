// SPDX-License-Identifier: BSD-3-Clause
#include "splitting.hpp"

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <vector>

#include "failure.hpp"
#include "linux.hpp"
#include "nodeshare/error.hpp"
#include "numa.hpp"

namespace nodeshare {
namespace {

constexpr int most_lanes = 8;

/// Index of the pretend node that rank `rank` of `size` belongs to.
int pretend_node(const settings& chosen, int rank, int size)
{
  std::vector<int> sizes;
  for (int placed = 0; placed < size; placed += sizes.back()) {
    sizes.push_back(chosen.placement[sizes.size() % static_cast<std::size_t>(chosen.placement_count)]);
  }
  if (chosen.cyclic != 0) {
    return rank % static_cast<int>(sizes.size());
  }
  int node = 0;
  for (int last = sizes[0]; rank >= last; last += sizes[static_cast<std::size_t>(node)]) {
    ++node;
  }
  return node;
}

}  // namespace

MPI_Comm split(MPI_Comm comm, int color, int key)
{
  MPI_Comm out = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split(comm, color, key, &out), "MPI_Comm_split");
  if (out != MPI_COMM_NULL) {
    MPI_Comm_set_errhandler(out, MPI_ERRORS_RETURN);
  }
  return out;
}

void agree_on(per each, MPI_Comm all)
{
  int least_and_most[2] = {static_cast<int>(each), -static_cast<int>(each)};
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, least_and_most, 2, MPI_INT, MPI_MIN, all), "MPI_Allreduce");
  if (least_and_most[0] != -least_and_most[1]) {
    throw mismatch(
        "some ranks of the communicator ask for its topology per node, others for that per NUMA domain: ask for the "
        "same on all");
  }
}

MPI_Comm split_by_memory(topology_state& state)
{
  MPI_Comm host = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(state.all, MPI_COMM_TYPE_SHARED, state.rank, MPI_INFO_NULL, &host),
            "MPI_Comm_split_type");
  int rank = 0;
  int size = 1;
  MPI_Comm_rank(host, &rank);
  MPI_Comm_size(host, &size);
  // split again by what the kernel says: containers share a host name only
  const std::uint64_t mine = linux_api::sharing_domain();
  std::vector<std::uint64_t> domains(static_cast<std::size_t>(size));
  check_mpi(MPI_Allgather(&mine, 1, MPI_UINT64_T, domains.data(), 1, MPI_UINT64_T, host), "MPI_Allgather");
  const int color = static_cast<int>(std::find(domains.begin(), domains.end(), mine) - domains.begin());
  MPI_Comm sharing = split(host, color, rank);
  MPI_Comm_free(&host);
  MPI_Comm_size(sharing, &state.ranks_on_host);
  const std::uint64_t space = linux_api::user_namespace();
  std::uint64_t least_and_most[2] = {space, ~space};
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, least_and_most, 2, MPI_UINT64_T, MPI_MIN, sharing), "MPI_Allreduce");
  state.one_user_namespace = least_and_most[0] == ~least_and_most[1];
  state.lowest_on_host = state.rank;
  check_mpi(MPI_Bcast(&state.lowest_on_host, 1, MPI_INT, 0, sharing), "MPI_Bcast");
  if (state.chosen.placement_count > 0) {
    MPI_Comm_rank(sharing, &rank);
    MPI_Comm pretend = split(sharing, pretend_node(state.chosen, rank, state.ranks_on_host), rank);
    MPI_Comm_free(&sharing);
    return pretend;
  }
  return sharing;
}

MPI_Comm split_by_domain(const topology_state& state, MPI_Comm node)
{
  int rank = 0;
  MPI_Comm_rank(node, &rank);
  int domain = 0;
  const failure trouble = find_domain(linux_api::processors(), numa_domains(), domain);
  MPI_Comm out = split(node, domain, rank);
  MPI_Comm_free(&node);
  int first = trouble ? state.rank : state.size;
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, state.all), "MPI_Allreduce");
  if (first < state.size) {
    MPI_Comm_free(&out);
    char text[512] = "";
    std::snprintf(text, sizeof text, "rank %d on %s can have no array per NUMA domain: %s", state.rank,
                  state.host.c_str(), trouble.text.c_str());
    check_mpi(MPI_Bcast(text, sizeof text, MPI_CHAR, first, state.all), "MPI_Bcast");
    throw invalid_argument(text);
  }
  return out;
}

void number_nodes(topology_state& state)
{
  MPI_Comm_rank(state.node, &state.node_rank);
  struct lowest_ranks {
    int of_node, of_host;
  } mine{state.rank, state.lowest_on_host};
  check_mpi(MPI_Bcast(&mine.of_node, 1, MPI_INT, 0, state.node), "MPI_Bcast");
  const auto size = static_cast<std::size_t>(state.size);
  std::vector<lowest_ranks> lowest(size);
  check_mpi(MPI_Allgather(&mine, 2, MPI_INT, lowest.data(), 2, MPI_INT, state.all), "MPI_Allgather");
  std::vector<int> index_of(size, -1);  // by a node's lowest rank
  state.node_of.resize(size);
  state.nodes_on_host = 0;
  for (std::size_t rank = 0; rank < size; ++rank) {
    int& index = index_of[static_cast<std::size_t>(lowest[rank].of_node)];
    if (index < 0) {
      state.nodes_on_host += lowest[rank].of_host == mine.of_host ? 1 : 0;
      index = static_cast<int>(state.ranks_on.size());
      state.ranks_on.emplace_back();
    }
    state.node_of[rank] = index;
    state.ranks_on[static_cast<std::size_t>(index)].push_back(static_cast<int>(rank));
  }
  state.node_index = state.node_of[static_cast<std::size_t>(state.rank)];
  state.node_count = static_cast<int>(state.ranks_on.size());
  state.lane_count = most_lanes;
  for (const auto& ranks : state.ranks_on) {
    state.lane_count = std::min(state.lane_count, static_cast<int>(ranks.size()));
  }
  if (state.node_count > 1) {
    const int lane = state.lane_index();
    state.lane = split(state.all, lane < 0 ? MPI_UNDEFINED : lane, state.node_index);
  }
}

}  // namespace nodeshare
