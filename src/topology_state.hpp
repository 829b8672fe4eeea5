// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// What a topology holds, for the library's own layers.
#pragma once

#include <mpi.h>

#include <memory>
#include <string>
#include <vector>

namespace nodeshare {

enum class memory_setting : int { automatic, window, memfd, held_window };

/// The environment variables, read on rank 0 and agreed once per topology.
struct settings {
  memory_setting memory = memory_setting::automatic;
  double patience = 30;               ///< seconds until a wait is reported
  int placement_count = 0;            ///< pretend nodes: how many entries of `placement` count, 0 for none
  int placement[64] = {};             ///< ranks per pretend node
  int cyclic = 0;                     ///< ranks dealt round the pretend nodes instead of in blocks
};

struct topology_state : std::enable_shared_from_this<topology_state> {
  ~topology_state();
  topology_state() = default;
  topology_state(const topology_state&) = delete;
  topology_state& operator=(const topology_state&) = delete;

  MPI_Comm user = MPI_COMM_NULL;   ///< null once the user freed it
  MPI_Comm all = MPI_COMM_NULL;    ///< ours from here on, with MPI_ERRORS_RETURN
  MPI_Comm node = MPI_COMM_NULL;
  MPI_Comm lane = MPI_COMM_NULL;   ///< lane 0 is that of the leaders; null on one node, and for ranks without a lane
  MPI_Comm user_node = MPI_COMM_NULL;
  MPI_Comm user_lane = MPI_COMM_NULL;

  int rank = 0;
  int size = 1;
  int node_index = 0;
  int node_count = 1;
  int node_rank = 0;
  int lane_count = 1;
  int ranks_on_host = 1;   ///< of all nodes that are there (pretended ones, NUMA domains): what matters for spinning
  int nodes_on_host = 1;   ///< how many these are: what matters for memory
  int lowest_on_host = 0;  ///< lowest rank there
  bool one_user_namespace = true;  ///< of all ranks there; else (Apptainer for each rank, say) they can share no memfd
  bool processes_visible = true;
  bool pending = false;  ///< a request was given up: its communicator must not be freed, or its id is used again
  std::string host;
  std::vector<int> node_of;                  ///< by rank
  std::vector<std::vector<int>> ranks_on;    ///< by node
  settings chosen;

  /// The node layer's object of this topology: lower layers know nothing of it.
  std::shared_ptr<void> node_layer;

  [[nodiscard]] int node_size() const noexcept { return static_cast<int>(ranks_on[static_cast<std::size_t>(node_index)].size()); }
  [[nodiscard]] int lane_index() const noexcept { return node_rank < lane_count ? node_rank : -1; }
  /// Frees our communicators. Runs when the user frees theirs, and when MPI_Finalize begins.
  void release_communicators() noexcept;
};

/// Called (in C++, on each rank) when MPI_Finalize begins, before the communicators go.
extern void (*at_finalize)();
/// Called on each rank when the user frees the communicator, before ours go.
extern void (*at_free)(topology_state& where);

}  // namespace nodeshare
