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
};

/// What a segment is made of.
struct segment_parts {
  mapping mapped;
  std::size_t bytes = 0;
  memory_kind kind = memory_kind::memfd;
  std::uint64_t id = 0;
  std::string description;
  std::shared_ptr<node> home;
  std::atomic<std::uint32_t>* holders = nullptr;  ///< in the control page of `home`
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

void unmap(mapping& memory) noexcept;

/// Makes a segment and enters it into the process' book of addresses.
std::shared_ptr<segment> make_segment(segment_parts&& parts);

/// Bytes of a mapping for `bytes` of data: whole pages, at least one.
std::size_t pages_for(std::size_t bytes) noexcept;

}  // namespace nodeshare
