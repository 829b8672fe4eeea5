// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Values that go from any rank of a node to any other, first in, first out.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>

#include "nodeshare/heap.hpp"
#include "nodeshare/mutex.hpp"
#include "stored.hpp"

namespace nodeshare {

struct ring_slot;
struct ring_words;

/// Each value is taken once. Functions are local; where they wait, they let MPI progress, and wake within microseconds
/// of a change. They throw `out_of_shared_memory`, and then nothing has changed; `peer_error`, once a rank has ended
/// within such a step, or when a rank of the node fails while this one waits, or all others have ended; `interrupted`.
///
/// A handle: copies mean the same ring.
class ring {
 public:
  /// Local. The ring at a place in the front of a heap, of `size_bytes()`: zeros, or a ring.
  /// @param putting, getting  what users call it, for messages
  ring(heap of, std::size_t place, std::string_view putting, std::string_view getting);
  [[nodiscard]] static std::size_t size_bytes() noexcept;

  /// By one rank, before others use the ring. How many values it holds at most, and how many bytes of them (one value
  /// may be larger); 0: any number.
  void bound(std::uint64_t values, std::uint64_t bytes) noexcept;

  /// Whether nobody is at the other end any more; `look`: every 50 ms, when it may take some time to find out.
  using is_over = std::function<bool(bool look)>;

  /// Waits until there is room, for `seconds` at most; negative: for ever. False: the time is over, or the ring.
  [[nodiscard]] bool put(const parts& value, double seconds, const is_over& over = {});
  /// Waits until there is a value. Nothing: the time is over, or the ring is, and was emptied.
  [[nodiscard]] std::optional<taken> get(double seconds, const is_over& over = {});
  /// Waits until `get` would not. False: the time is over.
  [[nodiscard]] bool poll(double seconds, const is_over& over = {});
  /// Those that wait look again.
  void tell() noexcept;

  /// One of the values that were got is dealt with. False: all were.
  [[nodiscard]] bool task_done();
  /// Waits until all values that were put are dealt with.
  void join();

  [[nodiscard]] std::size_t size() const noexcept;
  [[nodiscard]] std::uint64_t most_values() const noexcept;
  [[nodiscard]] bool full() const noexcept;
  [[nodiscard]] heap& memory() noexcept { return heap_; }
  [[nodiscard]] const heap& memory() const noexcept { return heap_; }

 private:
  using clock = std::chrono::steady_clock;

  ring_slot& slot(std::uint64_t number) const;
  bool try_to_allocate(std::optional<new_block>& out, const parts& value, clock::time_point& unread_at);
  bool try_put(const ring_slot& item);
  std::optional<taken> try_get();
  template <class Attempt>
  bool wait_until(double seconds, std::string_view routine, const is_over& over, const Attempt& attempt);
  void make_room();

  heap heap_;
  ring_words* words_;
  mutex lock_;
  std::string_view putting_;
  std::string_view getting_;
};

}  // namespace nodeshare
