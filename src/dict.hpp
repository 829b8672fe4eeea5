// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Values by keys, changed by any rank of a node.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "nodeshare/heap.hpp"
#include "nodeshare/mutex.hpp"
#include "stored.hpp"

namespace nodeshare {

struct dict_entry;
struct dict_words;

/// Keys are bytes, the same if their bytes are; they come in the order of their first insertion. What `taken` gives has
/// the key with it. Each function is local, and one step for all others. They throw `out_of_shared_memory`, and then
/// nothing has changed; `peer_error`, once a rank has ended within such a step; `interrupted`.
///
/// A handle: copies mean the same dict.
class dict {
 public:
  /// Collective over the communicator, whose ranks must be on one node.
  dict(const call& what, const std::shared_ptr<node>& home, std::size_t capacity);
  /// Local. The dict that lies in this memory.
  explicit dict(std::shared_ptr<segment> memory);

  [[nodiscard]] std::size_t size() const noexcept;
  [[nodiscard]] bool contains(const_bytes key);
  [[nodiscard]] std::optional<taken> get(const_bytes key);
  /// The value of a key, from now on.
  void set(const parts& value);
  /// Only if the key has none; else the one that it has.
  [[nodiscard]] std::optional<taken> set_default(const parts& value);
  [[nodiscard]] std::optional<taken> pop(const_bytes key);
  /// The last one.
  [[nodiscard]] std::optional<taken> pop();
  void clear();

  /// Copies of all keys.
  [[nodiscard]] std::vector<std::vector<std::byte>> keys();
  [[nodiscard]] std::vector<taken> all();

  [[nodiscard]] heap& memory() noexcept { return heap_; }

 private:
  explicit dict(heap of);
  dict_entry* find(const_bytes key, std::uint64_t hash);
  std::span<dict_entry> entries() const;
  void make_room();
  void add(const dict_entry& one) noexcept;
  heap::block take_out(dict_entry& one) noexcept;

  heap heap_;
  dict_words* words_;
  mutex lock_;
};

}  // namespace nodeshare
