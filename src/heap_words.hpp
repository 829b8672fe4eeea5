// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// What lies in a heap's memory: the words that all ranks see, and what is done to them by the one that holds the line.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <span>

#include "failure.hpp"
#include "nodeshare/heap.hpp"
#include "owner.hpp"

namespace nodeshare {

inline constexpr std::uint64_t mark_of_a_heap = 0x70616568'65646f6e;

/// What lies before a block's bytes, which begin on the next cache line.
struct alignas(heap::alignment) block_header {
  std::uint64_t number;  ///< 0: released
  std::uint64_t bytes;
  std::uint64_t pins;
};

/// A view of some process.
struct heap_pin {
  std::uint64_t process;  ///< its name; 0: free
  std::uint64_t offset;   ///< of the block
  std::uint32_t next;     ///< in a list of pins, counted from 1; 0: none
};

/// Where things lie in a heap's memory: its words, a table of pins, blocks. The table is apart from the blocks, so that
/// what is in a full heap can still be read; it is sparse, so that many pins cost nothing before they are there.
struct heap_layout {
  /// @param wanted  bytes of blocks
  explicit heap_layout(std::size_t wanted);

  std::size_t capacity;
  std::size_t most_pins;
  std::size_t pins;    ///< offset
  std::size_t blocks;  ///< offset
};

/// At the beginning of a heap's memory. What is not atomic is changed by the owner of the line alone.
struct heap_words {
  owner_line line;
  std::atomic<std::uint32_t> dropped;  ///< list of pins whose views are gone: the next owner of the line takes them out
  alignas(64) std::uint64_t mark;
  std::uint64_t capacity;
  std::uint64_t most_pins;
  std::uint64_t pins_at;
  std::uint64_t blocks_at;
  std::atomic<std::uint64_t> present;  ///< bytes of the blocks' part that can be touched, all of them the allocator's
  std::uint64_t numbers;               ///< given to blocks
  std::uint64_t blocks;
  std::uint64_t pins;
  std::uint64_t pins_present;  ///< entries that can be touched
  std::uint64_t pins_begun;    ///< entries that were ever used
  std::uint32_t free_pins;     ///< list of those of them that are not now

  /// By one rank, before the others know of it. Zeroed memory becomes an empty heap.
  static failure begin(segment& memory, const heap_layout& where);

  // its blocks
  /// One that is not released; null if there is none of that name.
  block_header* find(heap::block one) noexcept;
  /// Null if the heap is full. Throws `out_of_shared_memory` where the system is.
  std::byte* allocate(std::size_t bytes);
  void deallocate(std::uint64_t offset) noexcept;
  std::uint64_t used() noexcept;
  std::size_t largest_free();

  // its pins
  /// A free entry of the table; 0 if it is full. Throws `out_of_shared_memory` where the system is.
  std::uint64_t take_pin();
  /// Takes out the pins whose views are gone.
  void collect() noexcept;
  /// Takes out the pins of processes that have ended.
  void sweep();
  void free_if_unused(std::uint64_t offset) noexcept;

  /// What is left of the page that these words begin.
  std::span<std::byte> front() noexcept;

  std::byte* at(std::uint64_t offset) noexcept { return reinterpret_cast<std::byte*>(this) + offset; }
  block_header& header(std::uint64_t offset) noexcept { return *reinterpret_cast<block_header*>(at(offset)); }
  heap_pin& entry(std::uint32_t place) noexcept { return reinterpret_cast<heap_pin*>(at(pins_at))[place - 1]; }
  std::uint64_t left_to_grow() const noexcept { return capacity - present.load(std::memory_order_relaxed); }
  std::span<std::byte> bytes_of(heap::block one) noexcept
  {
    return {at(one.offset + sizeof(block_header)), header(one.offset).bytes};
  }

 private:
  failure grow(std::size_t bytes);
  failure extend(std::size_t bytes);
  void unpin(std::uint32_t place) noexcept;
};

inline std::span<std::byte> heap_words::front() noexcept
{
  constexpr std::size_t page = 4096;  // no system has smaller ones
  constexpr std::size_t first = (sizeof(heap_words) + 63) / 64 * 64;
  static_assert(first + 1024 <= page);
  return {at(first), page - first};
}

}  // namespace nodeshare
