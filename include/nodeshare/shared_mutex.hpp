// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Many readers or one writer.
#pragma once

#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <span>
#include <string>

#include "nodeshare/node.hpp"
#include "nodeshare/segment.hpp"
#include "nodeshare/topology.hpp"

namespace nodeshare {

/// What many threads of the node's ranks may hold to read, or one to write; as `std::shared_timed_mutex`, so with
/// `std::shared_lock` and `std::unique_lock`.
///
/// Writers go first: while one waits, no more readers come in. A reader writes to a cache line of its rank's own, so
/// readers do not disturb each other. Of a reader or writer that ends without unlocking the next writer (or anybody who
/// waits) hears as with `mutex`, and `peer_error` is thrown from then on.
class shared_mutex {
 public:
  /// As `mutex`: collective over the communicator, whose ranks must be on one node.
  explicit shared_mutex(const topology& where, std::source_location place = std::source_location::current());
  shared_mutex(const call& what, const std::shared_ptr<node>& home);
  /// Local. The one that lies in this memory.
  explicit shared_mutex(std::shared_ptr<segment> memory);

  /// Local. To write: as with `mutex`. Throws `error` if this thread reads, too.
  void lock() { (void)acquire(-1); }
  [[nodiscard]] bool try_lock() { return acquire(0); }
  [[nodiscard]] bool try_lock_for(std::chrono::duration<double> timeout) { return acquire(positive(timeout)); }
  void unlock();

  /// Local. To read: likewise. Throws `error` if this thread reads or writes already.
  void lock_shared() { (void)acquire_shared(-1); }
  [[nodiscard]] bool try_lock_shared() { return acquire_shared(0); }
  [[nodiscard]] bool try_lock_shared_for(std::chrono::duration<double> timeout)
  {
    return acquire_shared(positive(timeout));
  }
  void unlock_shared();

  /// Local. Who writes, or waits to; who reads: "rank 1 on node17, rank 2 on node17". Empty if nobody does.
  [[nodiscard]] std::string writer() const;
  [[nodiscard]] std::string readers() const;
  [[nodiscard]] const std::shared_ptr<segment>& memory() const noexcept { return memory_; }

 private:
  struct words;

  static double positive(std::chrono::duration<double> timeout) { return timeout.count() > 0 ? timeout.count() : 0; }
  [[nodiscard]] bool acquire(double seconds);
  [[nodiscard]] bool acquire_shared(double seconds);
  [[nodiscard]] bool holds(std::uint64_t me) const noexcept;
  [[nodiscard]] bool refuse(double seconds) const;
  [[nodiscard]] words& shared() const noexcept;
  [[nodiscard]] std::span<std::atomic<std::uint64_t>> places() const noexcept;
  void leave(std::atomic<std::uint64_t>& place) const noexcept;

  std::shared_ptr<segment> memory_;
};

}  // namespace nodeshare
