// SPDX-License-Identifier: BSD-3-Clause
#include "filling.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "linux.hpp"
#include "nodeshare/topology.hpp"

namespace nodeshare {
namespace {

constexpr std::size_t chunk_bytes = std::size_t{4} << 20;

class filler {
 public:
  filler(const segment_parts& parts, bool fresh, const look_ahead& look) : parts_(parts), fresh_(fresh), look_(look) {}

  std::size_t chunks() const { return (parts_.bytes + chunk_bytes - 1) / chunk_bytes; }
  std::size_t length(std::size_t chunk) const { return std::min(chunk_bytes, parts_.bytes - chunk * chunk_bytes); }
  std::byte* place(std::size_t chunk) const { return parts_.mapped.address + chunk * chunk_bytes; }

  /// Whole pages, as the last chunk may end within one.
  failure make_present(std::size_t chunk)
  {
    const std::size_t bytes = std::min(chunk_bytes, parts_.mapped.bytes - chunk * chunk_bytes);
    failure trouble = fresh_ ? look_(bytes) : failure{};
    return trouble || !fresh_ ? trouble : linux_api::populate(place(chunk), bytes);
  }

  /// By the root.
  failure write(std::size_t chunk, const std::byte* data)
  {
    if (fresh_ && parts_.mapped.file >= 0 && !linux_api::file_size_limit()) {  // over such a limit it would be SIGXFSZ
      if (failure trouble = look_(length(chunk))) {
        return trouble;
      }
      const std::size_t begin = chunk * chunk_bytes;
      return linux_api::write_at(parts_.mapped.file, data + begin, length(chunk), begin)
                 ? failure{}
                 : failure{failure_kind::out_of_shared_memory,
                           "the system has no page left after byte " + std::to_string(begin) + " (" + std::strerror(errno) + ")"};
    }
    if (failure trouble = make_present(chunk)) {
      return trouble;
    }
    std::memcpy(place(chunk), data + chunk * chunk_bytes, length(chunk));
    return {};
  }

  /// By another rank.
  failure read(std::size_t chunk, pid_t pid, const std::byte* data)
  {
    if (failure trouble = make_present(chunk)) {
      return trouble;
    }
    return linux_api::read_process(pid, data + chunk * chunk_bytes, place(chunk), length(chunk))
               ? failure{}
               : failure{failure_kind::other, "the memory of the root, which could be read at first, can't be read any more"};
  }

 private:
  const segment_parts& parts_;
  const bool fresh_;
  const look_ahead& look_;
};

}  // namespace

failure fill(control_page& page, int node_rank, int root, const segment_parts& parts, bool fresh, const look_ahead& look)
{
  filler mine(parts, fresh, look);
  const rank_record& source = page.record(root);
  const auto* data = reinterpret_cast<const std::byte*>(source.source);
  const auto block_by = [&](int rank) {
    return block_of(mine.chunks(), static_cast<std::size_t>(rank), static_cast<std::size_t>(page.ranks));
  };
  const bool writes = node_rank == root;
  if (std::byte probe{}; !writes && parts.bytes > 0 && !linux_api::read_process(source.pid, data, &probe, 1)) {
    const auto [first, last] = block_by(node_rank);
    for (std::size_t chunk = first; fresh && chunk < last; ++chunk) {
      if (chunk - first < page.record(node_rank).claimed.load(std::memory_order_relaxed)) {
        continue;  // the root was there already
      }
      if (failure trouble = mine.make_present(chunk)) {
        return trouble;
      }
    }
    return {};
  }
  for (int step = 0; step < page.ranks; ++step) {
    const int owner = (node_rank + step) % page.ranks;
    const auto [first, last] = block_by(owner);
    std::atomic<std::size_t>& claimed = page.record(owner).claimed;
    for (std::size_t chunk = first + claimed++; chunk < last; chunk = first + claimed++) {
      if (failure trouble = writes ? mine.write(chunk, data) : mine.read(chunk, source.pid, data)) {
        return trouble;
      }
    }
  }
  return {};
}

}  // namespace nodeshare
