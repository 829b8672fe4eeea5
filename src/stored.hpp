// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Values in a heap: what containers keep, and what their readers get of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "nodeshare/heap.hpp"

namespace nodeshare {

using const_bytes = std::span<const std::byte>;

/// A value that is to be stored: the pieces that pickle makes of an object, first its stream, then the buffers that are
/// not in it. In a dict a key comes with it.
struct parts {
  const_bytes key;
  std::span<const const_bytes> pieces;
};

/// The same as it lies in memory: a table of sizes, the key, the first piece, and each other one on a multiple of 64.
class stored {
 public:
  static std::size_t bytes_for(const parts& value);
  static void write(std::byte* to, const parts& value);

  explicit stored(const_bytes from) noexcept : from_(from) {}
  [[nodiscard]] const_bytes key() const noexcept;
  [[nodiscard]] std::size_t pieces() const noexcept;
  [[nodiscard]] std::vector<const_bytes> all() const;

 private:
  const_bytes from_;
};

/// A stored value in the hands of a reader: a copy of a small one, else a view, which keeps it.
class taken {
 public:
  /// Local. Of a block that nobody releases meanwhile. Throws as `heap::view`.
  taken(heap& of, heap::block one);
  /// Of bytes that are not a block.
  explicit taken(const_bytes from) : copy_(from.begin(), from.end()) {}

  [[nodiscard]] const_bytes bytes() const noexcept { return is_copy() ? const_bytes(copy_) : view_.bytes(); }
  [[nodiscard]] stored value() const noexcept { return stored(bytes()); }
  [[nodiscard]] bool is_copy() const noexcept { return view_.data() == nullptr; }

 private:
  std::vector<std::byte> copy_;
  heap_view view_;
};

/// Local. Puts a value into the place of another one, if it has the same size and readers copy it, who are excluded
/// now. Whether that was possible.
bool overwrite(heap& in, heap::block one, const parts& value);

/// A new block with a value in it, which is released again unless somebody takes it over.
class new_block {
 public:
  /// Local. Throws as `heap::allocate`.
  new_block(heap& in, const parts& value);
  ~new_block();
  new_block(const new_block&) = delete;
  new_block& operator=(const new_block&) = delete;
  new_block(new_block&& from) noexcept : in_(from.in_), block_(from.hand_over()) {}
  new_block& operator=(new_block&&) = delete;

  [[nodiscard]] heap::block block() const noexcept { return block_; }
  heap::block hand_over() noexcept { return std::exchange(block_, {}); }

 private:
  heap& in_;
  heap::block block_;
};

/// As many elements of a type in a heap, which its one user, who has excluded all others, makes larger by copying them.
template <class Element>
struct table {
  heap::block block;
  std::uint64_t room;  ///< elements

  [[nodiscard]] Element* in(const heap& where) const
  {
    return block ? reinterpret_cast<Element*>(where.at(block).data()) : nullptr;
  }
};

/// Local. A new table. Throws as `heap::allocate`; whoever has it releases it.
template <class Element>
table<Element> make_table(heap& where, std::uint64_t room)
{
  return {where.allocate(room * sizeof(Element)), room};
}

/// Local. The table's memory is free. Throws `peer_error`.
template <class Element>
void release(heap& where, const table<Element>& one)
{
  if (one.block) {
    where.release(one.block);
  }
}

}  // namespace nodeshare
