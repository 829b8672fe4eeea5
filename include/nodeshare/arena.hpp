// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Many small arrays in one piece of memory.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <string_view>
#include <type_traits>

#include "nodeshare/node.hpp"
#include "nodeshare/segment.hpp"
#include "nodeshare/topology.hpp"
#include "nodeshare/view.hpp"

namespace nodeshare {

/// One piece of memory on each node, from which arrays are taken one behind the other, without communication.
///
/// An array costs a mapping and a meeting of all ranks; one from an arena costs neither, and nothing is stored for it.
/// The ranks take the same arrays in the same order, so that each finds them at the same place; the next collective
/// call on the communicator, whichever, compares what they took. Views are valid as long as the arena, or a copy of
/// `memory()`, lives; an array is not given back by itself.
///
/// Move-only. Not for two threads at once.
class arena {
 public:
  /// Where each array begins, in bytes from the arena's beginning: a multiple of this.
  static constexpr std::size_t alignment = 64;

  /// Collective over the communicator. `bytes` of zeros on each node. Throws `out_of_shared_memory`, `mismatch`.
  /// @param reserve  makes every page present now; without it a full system is a SIGBUS at a touch
  explicit arena(const topology& where, std::size_t bytes, bool reserve = true,
                 std::source_location place = std::source_location::current());
  arena(const call& what, const std::shared_ptr<node>& home, std::size_t bytes, bool reserve);
  ~arena() = default;
  arena(const arena&) = delete;
  arena& operator=(const arena&) = delete;
  arena(arena&&) noexcept = default;
  arena& operator=(arena&&) noexcept = default;

  /// Local, in the same order on every rank. The next `bytes` bytes, zero; at least one, so that arrays differ in their
  /// address. Throws `out_of_shared_memory` if fewer are left; then nothing is taken.
  /// @param what  in words, for comparison and messages: "zeros(extents={3}, 8 bytes each)"
  std::byte* take(std::size_t bytes, std::string_view what);

  /// Local, in the same order on every rank. An array of zeros. Throws like `take`.
  template <class T, std::size_t Dims = 1>
  array_view<T, Dims> zeros(const std::array<std::size_t, Dims>& extents, layout order = layout::right)
  {
    static_assert(std::is_trivially_copyable_v<T>, "shared memory holds plain data only: no pointers to other memory");
    static_assert(alignof(T) <= alignment, "an arena aligns to 64 bytes");
    std::byte* at = take(bytes_of(extents, sizeof(T)), "zeros(" + text_of(extents, sizeof(T), order) + ")");
    return {reinterpret_cast<T*>(at), extents, array_view<T, Dims>::strides_of(extents, order)};
  }

  /// Collective over the node. Every write before it, into any array of the arena, is seen by all after it.
  /// Throws `mismatch` if the ranks took different arrays or call different things; `peer_error`.
  void sync(std::source_location place = std::source_location::current()) const;

  /// Local. Bytes of the arena; taken, with what alignment left between; still to be had; how many arrays were taken.
  [[nodiscard]] std::size_t size_bytes() const noexcept { return memory_->size_bytes(); }
  [[nodiscard]] std::size_t used_bytes() const noexcept { return used_; }
  [[nodiscard]] std::size_t free_bytes() const noexcept;
  [[nodiscard]] std::size_t count() const noexcept { return count_; }
  [[nodiscard]] const std::shared_ptr<segment>& memory() const noexcept { return memory_; }

 private:
  std::shared_ptr<segment> memory_;
  std::size_t used_ = 0;
  std::size_t count_ = 0;
  std::uint64_t digest_ = 0;  // of all that was taken
};

}  // namespace nodeshare
