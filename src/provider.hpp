// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// How a node comes to memory, in steps that report and agree on nothing: the node layer meets between them.
#pragma once

#include <mpi.h>

#include <atomic>
#include <cstddef>
#include <memory>
#include <string>

#include "failure.hpp"
#include "nodeshare/segment.hpp"

namespace nodeshare {

/// A rank's own mapping of shared pages.
struct mapping {
  std::byte* address = nullptr;
  std::size_t bytes = 0;  ///< whole pages
  int file = -1;
  std::uint64_t window = 0;  ///< number of the window that it belongs to, 0: none
};

/// One word a segment: how many ranks hold it, how many have it mapped (holders, and those that keep the mapping to use
/// it again), and what is known of it. Zero: the place is free.
namespace segment_word {
inline constexpr std::uint64_t holder = 1;
inline constexpr std::uint64_t mapping = std::uint64_t{1} << 24;
inline constexpr std::uint64_t retired = std::uint64_t{1} << 48;   ///< not to be used again: whoever let go unmaps it
inline constexpr std::uint64_t reserved = std::uint64_t{1} << 49;  ///< all its pages are there
inline constexpr std::uint64_t freed = std::uint64_t{1} << 50;     ///< a held window that all ranks free next

constexpr std::uint32_t holders(std::uint64_t word) noexcept { return static_cast<std::uint32_t>(word % mapping); }
constexpr std::uint32_t mappings(std::uint64_t word) noexcept { return static_cast<std::uint32_t>(word / mapping % mapping); }
}  // namespace segment_word

struct segment_parts;

/// Who takes the memory of a segment whose last view is gone.
class keeper {
 public:
  virtual ~keeper() = default;
  virtual void let_go(segment_parts& parts) noexcept = 0;
};

/// What a segment is made of.
struct segment_parts {
  mapping mapped;
  std::size_t bytes = 0;
  memory_kind kind = memory_kind::memfd;
  std::uint64_t id = 0;
  std::string description;
  std::shared_ptr<node> home;
  keeper* owner = nullptr;                     ///< lives as long as `home`; null if attached from outside its job
  std::atomic<std::uint64_t>* word = nullptr;  ///< in the control page of `home`: see segment_word
  std::uint32_t place = 0;                     ///< of the word
  bool read_only = false;                      ///< this rank's mapping
  bool locked = false;
};

/// One source of memory. All of a provider's steps are local, but for `map` of a window.
class provider {
 public:
  virtual ~provider() = default;

  /// Node rank 0 makes what the others will need; a window needs nothing.
  virtual failure offer(std::size_t bytes, descriptor& out) const = 0;

  /// Every rank maps. Collective over `node` in MPI's sense for a window, local otherwise.
  virtual failure map(MPI_Comm node, bool leads, const descriptor& offered, std::size_t bytes, mapping& out) const = 0;

  /// What stands in the way of `bytes`, as this rank sees it. `directory`: where this MPI keeps its windows.
  virtual failure look(std::size_t bytes, const std::string& directory) const = 0;
};

const provider& provider_of(memory_kind kind);
extern const provider& window_provider;
extern const provider& memfd_provider;
extern const provider& held_window_provider;

/// Whether the mapping is that of a window not freed yet, so that ranks can end it only together.
bool is_held(const mapping& memory) noexcept;
/// Collective over the node, in MPI's sense. Frees the window of a mapping that no rank uses any more.
void free_window(mapping& memory) noexcept;
/// Collective over all that hold windows: in MPI_Finalize. Views stay valid where the system can alias them; where not,
/// their addresses lead nowhere from then on.
void free_held_windows() noexcept;

/// What is left of a held window goes with the window.
void unmap(mapping& memory) noexcept;

/// Makes a segment and enters it into the process' book of addresses.
std::shared_ptr<segment> make_segment(segment_parts&& parts);

/// Bytes of a mapping for `bytes` of data: whole pages, at least one.
std::size_t pages_for(std::size_t bytes) noexcept;

}  // namespace nodeshare
