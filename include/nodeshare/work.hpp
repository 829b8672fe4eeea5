// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Which rank does which index.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <source_location>
#include <string>
#include <utility>
#include <vector>

#include "nodeshare/node.hpp"
#include "nodeshare/replicate.hpp"

namespace nodeshare {

enum class schedule : int {
  dynamic,     ///< ranks of a node take chunks as they go
  fixed,       ///< each rank its block (Python: "static")
};

/// Deals indices 0 … count-1, each to exactly one rank of the communicator.
///
/// Each node gets one contiguous block in proportion to its ranks; within the node ranks take chunks of it as they go:
/// large ones first, then smaller ("guided", as in OpenMP 5.2, 11.5.3), or of the given size.
class work {
 public:
  /// Collective over the communicator. `chunk` 0: guided. Throws `out_of_shared_memory`, `mismatch`.
  work(const topology& where, std::size_t count, std::size_t chunk = 0, schedule how = schedule::dynamic,
       std::source_location place = std::source_location::current());
  /// @param more  another agreement of the same call follows
  work(const call& what, const std::shared_ptr<node>& home, std::size_t count, std::size_t chunk, schedule how,
       bool more = false);

  /// Local. The next indices for this rank as [first, last), nothing when there are no more. Asking for the next says
  /// that the last ones are done. Throws `error` in a forked child, which is no rank.
  std::optional<std::pair<std::size_t, std::size_t>> next();

  /// Local. This rank leaves; of the indices it took last, those before `done_until` are done. Does nothing in a forked
  /// child.
  void leave(std::size_t done_until);

  /// Local. Leaves word for the ranks of this node that the rest is in vain; they look for it as they like.
  void stop() noexcept;
  [[nodiscard]] bool stopped() const noexcept;

  /// Local. How many indices it deals in all; how many of this node's have been done.
  [[nodiscard]] std::size_t count() const noexcept { return count_; }
  [[nodiscard]] std::size_t done_on_node() const noexcept;
  /// Local. This node's block.
  [[nodiscard]] std::pair<std::size_t, std::size_t> node_range() const noexcept { return range_; }
  /// Local. The blocks of all nodes.
  [[nodiscard]] std::vector<row_block> owners() const;

  /// Local, after a meeting. Which indices of this node were never done, in words; empty if it is finished.
  [[nodiscard]] std::string missing() const;

  [[nodiscard]] const std::shared_ptr<node>& home() const noexcept { return cells_->home(); }

 private:
  struct cells;
  [[nodiscard]] cells& shared() const noexcept;

  std::size_t count_;
  std::size_t chunk_;
  schedule how_;
  std::pair<std::size_t, std::size_t> range_;
  std::shared_ptr<segment> cells_;
};

/// Collective over the communicator. Each row of an array from the node that did it. Throws `error` on the ranks of a
/// node whose part is not finished (naming the indices), `peer_error` on the others, or when a rank has ended (with
/// what its node misses); `invalid_argument` if `rows` of the layout is not the work's count.
void allgather(const call& what, const std::shared_ptr<segment>& memory, const row_layout& layout, const work& done);

}  // namespace nodeshare
