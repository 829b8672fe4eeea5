// SPDX-License-Identifier: BSD-3-Clause
#include "filling.hpp"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "linux.hpp"
#include "nodeshare/node.hpp"
#include "nodeshare/topology.hpp"

namespace nodeshare {
namespace {

constexpr std::size_t chunk_bytes = std::size_t{4} << 20;

class filler {
 public:
  filler(const segment_parts& parts, bool fresh, const look_ahead& look) : parts_(parts), fresh_(fresh), look_(look) {}

  /// What the root has: by itself, or by another rank, where the system lets it read the root's memory.
  bool find_pieces(const rank_record& root, bool mine)
  {
    const auto* there = reinterpret_cast<const source_piece*>(root.source);
    pieces_.resize(root.sources);
    if (mine) {
      std::copy_n(there, root.sources, pieces_.begin());
      return true;
    }
    return linux_api::read_process(root.pid, reinterpret_cast<const std::byte*>(there),
                                   reinterpret_cast<std::byte*>(pieces_.data()), root.sources * sizeof(source_piece));
  }

  std::size_t chunks() const { return (parts_.bytes + chunk_bytes - 1) / chunk_bytes; }
  std::size_t length(std::size_t chunk) const { return std::min(chunk_bytes, parts_.bytes - chunk * chunk_bytes); }

  /// Whole pages, as the last chunk may end within one.
  failure make_present(std::size_t chunk)
  {
    const std::size_t bytes = std::min(chunk_bytes, parts_.mapped.bytes - chunk * chunk_bytes);
    failure trouble = fresh_ ? look_(bytes) : failure{};
    return trouble || !fresh_ ? trouble : linux_api::populate(parts_.mapped.address + chunk * chunk_bytes, bytes);
  }

  /// By the root.
  failure write(std::size_t chunk)
  {
    if (failure trouble = make_present(chunk)) {
      return trouble;
    }
    return each_piece(chunk, [&](std::size_t begin, const std::byte* data, std::size_t bytes) {
      std::memcpy(parts_.mapped.address + begin, data, bytes);
      return failure{};
    });
  }

  /// By another rank.
  failure read(std::size_t chunk, pid_t pid)
  {
    if (failure trouble = make_present(chunk)) {
      return trouble;
    }
    return each_piece(chunk, [&](std::size_t begin, const std::byte* data, std::size_t bytes) {
      return linux_api::read_process(pid, data, parts_.mapped.address + begin, bytes)
                 ? failure{}
                 : failure{failure_kind::other, "the memory of the root, which could be read at first, can't be read any more"};
    });
  }

 private:
  /// Calls `move(begin, data, bytes)` for what a chunk holds, until one fails.
  template <class Move>
  failure each_piece(std::size_t chunk, Move&& move) const
  {
    const std::size_t first = chunk * chunk_bytes;
    const std::size_t last = first + length(chunk);
    const auto ends_after = [](std::size_t place, const source_piece& one) { return place < one.offset + one.bytes; };
    for (auto one = std::upper_bound(pieces_.begin(), pieces_.end(), first, ends_after);
         one != pieces_.end() && one->offset < last; ++one) {
      const std::size_t begin = std::max(first, one->offset);
      const std::size_t end = std::min(last, one->offset + one->bytes);
      if (failure trouble = move(begin, one->data + (begin - one->offset), end - begin)) {
        return trouble;
      }
    }
    return {};
  }

  const segment_parts& parts_;
  const bool fresh_;
  const look_ahead& look_;
  std::vector<source_piece> pieces_;
};

}  // namespace

failure fill(control_page& page, int node_rank, int root, const segment_parts& parts, bool fresh, const look_ahead& look)
{
  filler mine(parts, fresh, look);
  const rank_record& source = page.record(root);
  const auto block_by = [&](int rank) {
    return block_of(mine.chunks(), static_cast<std::size_t>(rank), static_cast<std::size_t>(page.ranks));
  };
  const bool writes = node_rank == root;
  if (!mine.find_pieces(source, writes)) {
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
      if (failure trouble = writes ? mine.write(chunk) : mine.read(chunk, source.pid)) {
        return trouble;
      }
    }
  }
  return {};
}

}  // namespace nodeshare
