// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Blocks of any size in one piece of memory, taken and given back by any rank of a node.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <span>

#include "nodeshare/mutex.hpp"
#include "nodeshare/node.hpp"
#include "nodeshare/segment.hpp"
#include "nodeshare/topology.hpp"

namespace nodeshare {

struct heap_words;

/// A block's bytes, which stay where they are and as they are as long as this lives: also after the block is released,
/// after the heap's last handle is gone, and after MPI_Finalize. Letting go waits for nobody and throws nothing.
///
/// Move-only. What a forked child has of its parent's views keeps nothing; it makes its own.
class heap_view {
 public:
  heap_view() = default;
  ~heap_view() { let_go(); }
  heap_view(const heap_view&) = delete;
  heap_view& operator=(const heap_view&) = delete;
  heap_view(heap_view&& from) noexcept;
  heap_view& operator=(heap_view&& from) noexcept;

  /// Local. The first byte, on a multiple of `heap::alignment`; as many bytes as were asked for.
  [[nodiscard]] std::byte* data() const noexcept { return bytes_.data(); }
  [[nodiscard]] std::size_t size_bytes() const noexcept { return bytes_.size(); }
  [[nodiscard]] std::span<std::byte> bytes() const noexcept { return bytes_; }

 private:
  friend class heap;
  void let_go() noexcept;

  std::shared_ptr<segment> memory_;  // null: of nothing
  std::span<std::byte> bytes_;
  std::uint64_t process_ = 0;  // that has it
  std::uint32_t pin_ = 0;
};

/// A general allocator in memory that a node's ranks share (best fit, as Boost.Interprocess' `rbtree_best_fit` does
/// it).
///
/// Only its front takes memory: it grows, up to its capacity, when a block does not fit; pages are made present before
/// they are touched, so a full system is an error and no SIGBUS. A view pins its block: a release takes the block's
/// name away, and the last view its memory. Views of processes that have ended count no more when memory is short, or
/// somebody asks for `usage`. Should a rank end within a call, which may leave the heap half changed, all later calls
/// of all ranks throw `peer_error`; views stay valid.
///
/// A handle: copies mean the same heap. Forked children, and several threads at once, may use it too. The memory goes
/// with the last handle or view on the node: local, in any order.
class heap {
 public:
  /// Where each block begins, in bytes from a page's beginning: a multiple of this. A block costs about 120 bytes
  /// besides its own.
  static constexpr std::size_t alignment = 64;

  /// Names a block to all ranks: plain numbers, which may themselves lie in shared memory. The one with number 0 is
  /// none.
  struct block {
    std::uint64_t offset = 0;
    std::uint64_t number = 0;  ///< never given twice

    explicit operator bool() const noexcept { return number != 0; }
    bool operator==(const block&) const = default;
  };

  /// In bytes, what blocks cost besides their own included.
  struct statistics {
    std::size_t capacity = 0;
    std::size_t used = 0;
    std::size_t present = 0;       ///< of the capacity; this much memory the heap has taken from the system
    std::size_t largest_free = 0;  ///< a block of so many bytes is to be had, if the system has memory
    std::size_t blocks = 0;        ///< count: not released, or with a view
    std::size_t views = 0;         ///< count
  };

  /// Collective over the communicator, whose ranks must be on one node.
  /// @param capacity  bytes, rounded up to whole pages; a large one costs nothing before it is used
  /// Throws `invalid_argument` if the ranks are on several nodes, `out_of_shared_memory`, `mismatch`.
  heap(const topology& where, std::size_t capacity, std::source_location place = std::source_location::current());
  heap(const call& what, const std::shared_ptr<node>& home, std::size_t capacity);
  /// Local. The heap that lies in this memory. Throws `invalid_argument` if there is none.
  explicit heap(std::shared_ptr<segment> memory);

  /// Local. A block of `bytes` bytes, which may be 0; what they hold is unspecified. Throws `out_of_shared_memory` if
  /// the heap is full, or the system, and then nothing has changed; `peer_error`; `interrupted`.
  [[nodiscard]] block allocate(std::size_t bytes);
  /// Local. The block's bytes, kept. Throws `invalid_argument` if it was released; `out_of_shared_memory` if there are
  /// too many views; `peer_error`; `interrupted`.
  [[nodiscard]] heap_view view(block one);
  /// Local. The block's bytes, for a caller who knows that nobody releases it meanwhile; waits for nobody. Throws
  /// `invalid_argument` if it was released.
  [[nodiscard]] std::span<std::byte> at(block one) const;
  /// Local. Nobody gets the block any more; its memory is free when its last view is gone. Throws `invalid_argument` if
  /// it was released; `peer_error`; `interrupted`.
  void release(block one);

  /// Local. Bytes before the blocks, zeros at first, on a multiple of 64: for what its users agree on, as a mutex, or
  /// the block to begin at.
  [[nodiscard]] std::span<std::byte> front() const noexcept;

  /// Local. What is taken and what is left, now. Throws `peer_error`; `interrupted`.
  [[nodiscard]] statistics usage();
  /// Local. As it was asked for, in whole pages.
  [[nodiscard]] std::size_t capacity() const noexcept;
  [[nodiscard]] const std::shared_ptr<segment>& memory() const noexcept { return memory_; }

 private:
  std::shared_ptr<segment> memory_;
  heap_words* words_;
  mutex lock_;
};

}  // namespace nodeshare
