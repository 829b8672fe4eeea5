// SPDX-License-Identifier: BSD-3-Clause
#include "filling.hpp"

#include <algorithm>
#include <cstring>
#include <optional>

#include "linux.hpp"

namespace nodeshare {
namespace {

constexpr std::size_t chunk_bytes = std::size_t{4} << 20;
constexpr std::uint64_t from_the_back = std::uint64_t{1} << 32;  // `claimed` counts both ends: these above, those below

/// A chunk's number, as long as there is one that nobody has claimed.
std::optional<std::size_t> claim(std::atomic<std::uint64_t>& claimed, bool front, std::size_t chunks)
{
  std::uint64_t seen = claimed.load(std::memory_order_relaxed);
  while (true) {
    const std::size_t first = seen % from_the_back;
    const std::size_t last = chunks - seen / from_the_back;
    if (first >= last) {
      return std::nullopt;
    }
    if (claimed.compare_exchange_weak(seen, seen + (front ? 1 : from_the_back), std::memory_order_relaxed)) {
      return front ? first : last - 1;
    }
  }
}

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
      return linux_api::write_at(parts_.mapped.file, data + chunk * chunk_bytes, length(chunk), chunk * chunk_bytes);
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

failure fill(control_page& page, int node_rank, int root, const segment_parts& parts, fill_by how, const look_ahead& look)
{
  filler mine(parts, how.fresh, look);
  std::atomic<std::uint64_t>& claimed = page.header().claimed;
  const rank_record& source = page.record(root);
  const auto* data = reinterpret_cast<const std::byte*>(source.source);
  const bool writes = node_rank == root;
  if (!writes && !how.fresh && !how.core_each) {
    return {};
  }
  if (!writes && parts.bytes > 0) {
    std::byte probe{};
    if (!linux_api::read_process(source.pid, data, &probe, 1)) {
      const auto others = static_cast<std::size_t>(page.ranks - 1);
      const auto first = static_cast<std::size_t>((node_rank - root - 1 + page.ranks) % page.ranks);
      for (std::size_t i = first; how.fresh && i < mine.chunks(); i += others) {
        const std::size_t chunk = mine.chunks() - 1 - i;
        if (chunk < claimed.load(std::memory_order_relaxed)) {
          break;  // the root is there already
        }
        if (failure trouble = mine.make_present(chunk)) {
          return trouble;
        }
      }
      return {};
    }
  }
  while (const auto chunk = claim(claimed, writes, mine.chunks())) {
    if (failure trouble = writes ? mine.write(*chunk, data) : mine.read(*chunk, source.pid, data)) {
      return trouble;
    }
  }
  return {};
}

}  // namespace nodeshare
