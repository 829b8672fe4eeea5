// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Which ranks share memory with which.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <memory>
#include <source_location>
#include <span>
#include <string>
#include <utility>

namespace nodeshare {

struct topology_state;

/// Of what there is one copy each: a node's memory, or that of a NUMA domain in it.
enum class per : int { node, numa };

/// The nodes and lanes of a communicator. A handle: copies mean the same topology.
///
/// A *node* is a set of ranks that share memory; nodes are numbered by their lowest rank. A *lane* holds one rank of
/// every node; lanes carry transfers between nodes in parallel. Any placement works: block, cyclic, uneven.
///
/// With `per::numa` the NUMA domains of the machines take the place of nodes: arrays have a copy in each of them.
class topology {
 public:
  /// Collective over the communicator. Splits it (MPI-3.1, 6.4.2 `MPI_Comm_split_type`) on the first call; later calls
  /// return the same topology, which is cached as an attribute of the communicator.
  ///
  /// Throws `invalid_argument` for a null communicator, an inter-communicator, a bad setting, a launcher of another
  /// MPI; `error` before MPI_Init and after MPI_Finalize; `mpi_error`.
  explicit topology(MPI_Comm comm, std::source_location where = std::source_location::current());
  /// The same; `each` is part of what is cached. With `per::numa` it also throws `invalid_argument` when a rank may run
  /// in several domains (sched_getaffinity(2)), and `mismatch` when ranks ask for different things.
  topology(MPI_Comm comm, per each, std::source_location where = std::source_location::current());

  /// Local. The user's communicator. Throws `invalid_argument` once the user has freed it.
  [[nodiscard]] MPI_Comm comm() const;
  /// Local. This rank in `comm`, and the number of its ranks.
  [[nodiscard]] int rank() const noexcept;
  [[nodiscard]] int size() const noexcept;
  /// Local. Index of this rank's node, and the number of nodes.
  [[nodiscard]] int node() const noexcept;
  [[nodiscard]] int nodes() const noexcept;
  /// Local. This rank's place among the ranks of its node.
  [[nodiscard]] int node_rank() const noexcept;
  [[nodiscard]] int node_size() const noexcept;
  /// Local. Whether this is node rank 0.
  [[nodiscard]] bool is_leader() const noexcept { return node_rank() == 0; }
  /// Local. Host name of this rank's node.
  [[nodiscard]] const std::string& host() const noexcept;
  /// Local. This rank's lane, -1 if it has none; the number of lanes: the fewest ranks on any node, at most 8.
  [[nodiscard]] int lane() const noexcept;
  [[nodiscard]] int lanes() const noexcept;
  /// Local. Node of a rank. Throws `invalid_argument` if there is no such rank.
  [[nodiscard]] int node_of(int rank) const;
  /// Local. Ranks of a node in ascending order. Throws `invalid_argument` if there is no such node.
  [[nodiscard]] std::span<const int> ranks_on(int node) const;
  /// Local. This rank's block of `count` rows, as [first, last).
  [[nodiscard]] std::pair<std::size_t, std::size_t> local_range(std::size_t count) const noexcept;

  /// Collective over the node. A duplicate of the node's communicator for the user, made on the first call.
  [[nodiscard]] MPI_Comm node_comm() const;
  /// Collective over the lane. Likewise the lane's communicator; MPI_COMM_NULL on a rank without a lane.
  [[nodiscard]] MPI_Comm lane_comm() const;

  /// Local. What the library's own layers share; not for users.
  [[nodiscard]] topology_state& state() const noexcept { return *state_; }
  [[nodiscard]] std::shared_ptr<topology_state> shared_state() const noexcept { return state_; }

 private:
  std::shared_ptr<topology_state> state_;
};

/// Block `index` of `count` things dealt to `parts`: [index * count / parts, (index + 1) * count / parts).
[[nodiscard]] constexpr std::pair<std::size_t, std::size_t> block_of(std::size_t count, std::size_t index,
                                                                     std::size_t parts) noexcept
{
  const auto edge = [&](std::size_t i) { return count / parts * i + count % parts * i / parts; };
  return {edge(index), edge(index + 1)};
}

}  // namespace nodeshare
