// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// A number that all ranks of a node count on.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>

#include "nodeshare/node.hpp"
#include "nodeshare/segment.hpp"
#include "nodeshare/topology.hpp"

namespace nodeshare {

/// A number of 64 bits, 0 at first, to which the node's ranks add. No number is given twice and none is lost, whoever
/// is killed: each call is one atomic operation. It wraps, as `std::atomic` does.
///
/// A handle: copies mean the same counter. The memory goes with the last one on the node: local, in any order.
class counter {
 public:
  /// Collective over the communicator, whose ranks must be on one node. Throws `invalid_argument` if they are not,
  /// `out_of_shared_memory`, `mismatch`.
  explicit counter(const topology& where, std::source_location place = std::source_location::current());
  counter(const call& what, const std::shared_ptr<node>& home);
  /// Local. The one that lies in this memory.
  explicit counter(std::shared_ptr<segment> memory);

  /// Local. Adds `k` and returns the value before. What a rank wrote before it added is seen by those who read the sum.
  std::int64_t add(std::int64_t k = 1) noexcept { return number_->fetch_add(k, std::memory_order_acq_rel); }
  /// Local. The value now.
  [[nodiscard]] std::int64_t value() const noexcept { return number_->load(std::memory_order_acquire); }

  [[nodiscard]] const std::shared_ptr<segment>& memory() const noexcept { return memory_; }

 private:
  std::shared_ptr<segment> memory_;
  std::atomic<std::int64_t>* number_;
};

}  // namespace nodeshare
