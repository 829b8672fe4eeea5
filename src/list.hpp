// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Values in a row, changed by any rank of a node.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "nodeshare/heap.hpp"
#include "nodeshare/mutex.hpp"
#include "stored.hpp"

namespace nodeshare {

struct list_words;

/// Each function is local, and one step for all others. They throw `out_of_shared_memory`, and then nothing has
/// changed; `peer_error`, once a rank has ended within such a step; `interrupted`. An index counts from the end where
/// it is negative; `std::out_of_range` is thrown if there is no such value.
///
/// A handle: copies mean the same list.
class list {
 public:
  /// Collective over the communicator, whose ranks must be on one node.
  list(const call& what, const std::shared_ptr<node>& home, std::size_t capacity);
  /// Local. The list that lies in this memory.
  explicit list(std::shared_ptr<segment> memory);

  [[nodiscard]] std::size_t size() const noexcept;
  [[nodiscard]] taken get(std::ptrdiff_t index);
  void set(std::ptrdiff_t index, const parts& value);
  /// Before the one of that index; an index beyond either end means that end.
  void insert(std::ptrdiff_t index, std::span<const parts> values);
  [[nodiscard]] taken pop(std::ptrdiff_t index);

  /// Which values are to be there, of a list of so many: one of them by its index, a fresh one as -1 - its index.
  using arrangement = std::function<std::vector<std::int64_t>(std::size_t size)>;

  struct contents {
    std::uint64_t changes;  ///< how often the list has been changed until then
    std::vector<taken> values;
  };
  /// Those whose indices `which` gives for a list of so many.
  [[nodiscard]] contents some(const std::function<std::vector<std::size_t>(std::size_t size)>& which);
  [[nodiscard]] std::uint64_t changes() const noexcept;
  /// Puts another row in the place of this one; each value once, or not.
  void rearrange(const arrangement& wanted, std::span<const parts> fresh = {});
  /// Likewise. False, and nothing done, if somebody has changed the list since there were so many changes.
  [[nodiscard]] bool rearrange_unchanged(std::uint64_t changes, std::span<const std::int64_t> order);

  [[nodiscard]] heap& memory() noexcept { return heap_; }

 private:
  explicit list(heap of);
  heap::block* place_of(std::ptrdiff_t index);
  std::vector<heap::block> put_in_order(std::span<const std::int64_t> order, std::span<new_block> fresh);

  heap heap_;
  list_words* words_;
  mutex lock_;
};

}  // namespace nodeshare
