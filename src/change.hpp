// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// A word of shared memory that counts what happens to something, and the way to wait until something does.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <string>

#include "nodeshare/segment.hpp"
#include "wait.hpp"

namespace nodeshare {

/// The word with what those who wait for it share; zero at first.
struct alignas(64) change_line {
  std::atomic<std::uint64_t> changes;
  std::atomic<std::uint32_t> sleepers;    ///< how many sleep on `changes`
  std::atomic<std::int64_t> looked_at;    ///< when somebody last looked at the ranks' processes; milliseconds
  std::atomic<std::int64_t> reported_at;  ///< when somebody last reported a long wait

  void tell() noexcept;
};

/// One wait.
class change_wait {
 public:
  /// @param seconds  how long, for all calls together; negative: for ever
  /// @param routine  that waits, for reports
  change_wait(const segment& memory, change_line& line, double seconds, std::string_view routine) noexcept;

  /// Waits until there have been others than `seen` changes, or every 50 ms. False: the time is over. Throws
  /// `peer_error` when a rank of the node has failed, or all others have ended, and changed nothing before; then
  /// `over`, if there is one, may say that this is an end to be expected; `interrupted`.
  bool wait(std::uint64_t seen, const std::function<bool(bool look)>& over = {});
  /// Whether the last wait ended since 50 ms were over.
  [[nodiscard]] bool has_looked() const noexcept { return looked_; }

 private:
  const segment& memory_;
  change_line& line_;
  const double seconds_;
  const std::string_view routine_;
  double next_report_;
  bool looked_ = false;
  waiter pace_;
};

}  // namespace nodeshare
