// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Bytes of a node: one piece of memory that each of its ranks maps.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace nodeshare {

class node;
struct segment_parts;

/// Where a segment's memory comes from.
enum class memory_kind : int {
  window,       ///< MPI_Win_allocate_shared, aliased and freed at once
  memfd,        ///< memfd_create(2), opened by the others through /proc/<pid>/fd
  held_window,  ///< MPI_Win_allocate_shared, freed by a later creation when all ranks have let go, or by MPI_Finalize
};

/// Local. As NODESHARE_MEMORY calls it: "window", "memfd", "held-window".
[[nodiscard]] const char* name_of(memory_kind kind) noexcept;

/// One mapping of memory that the ranks of a node share. Letting go (the destructor) is local, in any order, also after
/// MPI_Finalize; the memory is free, or kept for the node's next
/// segment, when the last rank has let go.
class segment {
 public:
  explicit segment(segment_parts&& parts);
  ~segment();
  segment(const segment&) = delete;
  segment& operator=(const segment&) = delete;

  /// Local. First byte, on a page boundary; bytes asked for (the mapping is whole pages).
  [[nodiscard]] std::byte* data() const noexcept;
  [[nodiscard]] std::size_t size_bytes() const noexcept;
  [[nodiscard]] memory_kind kind() const noexcept;
  /// Local. Number of the segment, the same on every rank of the communicator.
  [[nodiscard]] std::uint64_t id() const noexcept;
  /// Local. What it was made as: "zeros(shape=(3,), dtype=float64) at script.py:7".
  [[nodiscard]] const std::string& description() const noexcept;
  /// Local. The node whose ranks share it; null if attached from outside its job.
  [[nodiscard]] const std::shared_ptr<nodeshare::node>& home() const noexcept;
  /// Local. How many ranks of the node have not let go; 0 where that is not counted.
  [[nodiscard]] std::uint32_t holders() const noexcept;
  /// Local. Descriptor of the memfd in this process, -1 if there is none (a window, or descriptors were scarce).
  [[nodiscard]] int file() const noexcept;

  /// Local. The memory will not be used for another segment: somebody who is not counted may see it for longer.
  void keep_from_recycling() const noexcept;

  /// Local. Forbids this rank (and no other) to write, or allows it again (mprotect(2)).
  void protect(bool read_only);
  /// Local. Whether it does: what then comes from other nodes is refused, as MPI could not write it either.
  [[nodiscard]] bool is_protected() const noexcept;
  /// Local. mlock(2), munlock(2), msync(2) of the whole segment. Throw `error` with the system's reason.
  void lock_pages();
  void unlock_pages();
  void synchronize_file();

 private:
  std::unique_ptr<segment_parts> parts_;
};

/// Local. The living segment of this process that holds `address`; null if there is none.
[[nodiscard]] std::shared_ptr<segment> find_segment(const void* address);

/// Local. All living segments of this process, by address.
[[nodiscard]] std::vector<std::shared_ptr<segment>> living_segments();

/// Names the memory of a memfd segment for another process of the same user on the same machine.
struct descriptor {
  std::int32_t pid = 0;
  std::int32_t file = -1;
  std::uint64_t start_time = 0;  ///< of the process: with `pid` it names it for good
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  std::uint64_t bytes = 0;
};

/// Local. Descriptor of a segment in this process. Throws `error` where there is none.
[[nodiscard]] descriptor describe(const segment& memory);

/// Local. Maps what another process described. Throws `error` when that process has ended or let go.
[[nodiscard]] std::shared_ptr<segment> attach(const descriptor& from);

}  // namespace nodeshare
