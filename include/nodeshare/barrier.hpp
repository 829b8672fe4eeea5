// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Where all ranks of a node wait for each other.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <source_location>
#include <string>

#include "nodeshare/node.hpp"
#include "nodeshare/topology.hpp"

namespace nodeshare {

/// A meeting of the node's ranks, without an array to synchronise.
class barrier {
 public:
  /// Collective over the communicator, whose ranks must be on one node. Throws `invalid_argument` if they are not,
  /// `mismatch`.
  explicit barrier(const topology& where, std::source_location place = std::source_location::current());
  barrier(const call& what, std::shared_ptr<node> home);

  /// Collective over the node. Every write before it is seen by all after it. Throws `mismatch` when a rank calls
  /// something else, `peer_error` when one has ended.
  void wait(std::source_location place = std::source_location::current()) const { meet(-1, place); }
  /// Likewise, for as long as this rank's `timeout`. When that is over before all have come, it throws `error`, and the
  /// others `peer_error`; nothing else is broken, and all may wait again.
  void wait_for(std::chrono::duration<double> timeout,
                std::source_location place = std::source_location::current()) const
  {
    meet(timeout.count() > 0 ? timeout.count() : 0, place);
  }

  /// Local. What it was made as: "Barrier() at script.py:7".
  [[nodiscard]] const std::string& description() const noexcept { return description_; }

 private:
  void meet(double seconds, std::source_location place) const;

  std::shared_ptr<node> home_;
  std::uint64_t number_;  // that of a meeting of the node
  std::string description_;
};

}  // namespace nodeshare
