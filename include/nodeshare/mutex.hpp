// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// One rank of a node at a time.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <string>

#include "nodeshare/node.hpp"
#include "nodeshare/segment.hpp"
#include "nodeshare/topology.hpp"

namespace nodeshare {

struct owner_line;

/// What one thread of one rank of the node holds at a time; as `std::timed_mutex`, so with `std::scoped_lock` and
/// `std::unique_lock` ([thread.mutex.requirements] of the C++ standard).
///
/// A thread that waits lets MPI progress, and notices within 50 ms when the owner's process (or thread) ends without
/// unlocking: then this and all later calls throw `peer_error`, on all ranks, since what the mutex guards may be half
/// changed. A rank that has ended its part (MPI_Finalize) counts as ended. Forked children may use it, too.
///
/// A handle: copies mean the same mutex. The memory goes with the last one on the node: local, in any order.
class mutex {
 public:
  /// Collective over the communicator, whose ranks must be on one node. Throws `invalid_argument` if they are not,
  /// `out_of_shared_memory`, `mismatch`.
  explicit mutex(const topology& where, std::source_location place = std::source_location::current());
  mutex(const call& what, const std::shared_ptr<node>& home);
  /// Local. The mutex at a place of memory that its ranks share: `size_bytes()` of zeros, or a mutex, on a multiple
  /// of 64.
  explicit mutex(std::shared_ptr<segment> memory, std::size_t offset = 0);

  /// Local. Waits until nobody holds it. Throws `error` if this thread does, `peer_error`, `interrupted`.
  void lock() { (void)acquire(-1); }
  /// Local. Whether this thread holds it now; does not wait. Throws `peer_error`.
  [[nodiscard]] bool try_lock();
  /// Local. Waits for as long. False: the time is over. Throws as `lock`.
  [[nodiscard]] bool try_lock_for(std::chrono::duration<double> timeout)
  {
    return timeout.count() > 0 ? acquire(timeout.count()) : try_lock();
  }
  /// Local. Throws `error` if this thread does not hold it.
  void unlock();

  /// Local. Whether anybody holds it now; who does, "rank 1 on node17", empty if nobody does.
  [[nodiscard]] bool locked() const noexcept;
  [[nodiscard]] std::string owner() const;
  /// Local. The memory that it lies in, and how many bytes of it.
  [[nodiscard]] const std::shared_ptr<segment>& memory() const noexcept { return memory_; }
  [[nodiscard]] static std::size_t size_bytes() noexcept;

 private:
  [[nodiscard]] bool acquire(double seconds);

  std::shared_ptr<segment> memory_;
  owner_line* line_;
};

}  // namespace nodeshare
