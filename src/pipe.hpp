// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Two ends, each of which gets what is sent into the other.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>

#include "ring.hpp"

namespace nodeshare {

struct pipe_words;

/// Functions are local, and throw what those of `ring` do.
///
/// All ranks have both ends; the process that sends, receives or polls at an end is its user. An end is closed once its
/// user has closed it or has ended, until it has another one, or once each of several ranks has closed it.
class pipe_end {
 public:
  /// Local. Of the heap in this memory.
  pipe_end(const std::shared_ptr<segment>& memory, int side);

  /// Waits while more than a quarter of the heap's capacity lies unread in this direction, for `seconds` at most;
  /// negative: for ever. False: the time is over, or the other end is closed.
  [[nodiscard]] bool send(const parts& value, double seconds);
  /// Nothing: the time is over, or no more comes.
  [[nodiscard]] std::optional<taken> receive(double seconds);
  /// Whether there is something to receive, or no more comes.
  [[nodiscard]] bool poll(double seconds);
  /// Once.
  void close();

  [[nodiscard]] heap& memory() noexcept { return out_.memory(); }

 private:
  void use();
  bool other_is_closed(bool look);

  int side_;
  ring out_, in_;
  pipe_words* words_;
  std::atomic<std::int64_t> looked_at_{0};  // of all threads that use this end; milliseconds
};

}  // namespace nodeshare
