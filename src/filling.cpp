// SPDX-License-Identifier: BSD-3-Clause
#include "filling.hpp"

#include <algorithm>
#include <vector>

#include "copying.hpp"
#include "linux.hpp"
#include "nodeshare/node.hpp"
#include "nodeshare/topology.hpp"

namespace nodeshare {
namespace {

constexpr std::size_t filled_at_once = std::size_t{4} << 20;

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
    root_ = root.pid;
    return linux_api::read_process(root.pid, reinterpret_cast<const std::byte*>(there),
                                   reinterpret_cast<std::byte*>(pieces_.data()), root.sources * sizeof(source_piece));
  }

  std::size_t chunks() const { return (parts_.bytes + filled_at_once - 1) / filled_at_once; }
  std::size_t length(std::size_t chunk) const { return std::min(filled_at_once, parts_.bytes - chunk * filled_at_once); }

  /// Whole pages, as the last chunk may end within one.
  failure make_present(std::size_t chunk)
  {
    const std::size_t bytes = std::min(filled_at_once, parts_.mapped.bytes - chunk * filled_at_once);
    failure trouble = fresh_ ? look_(bytes) : failure{};
    return trouble || !fresh_ ? trouble : linux_api::populate(parts_.mapped.address + chunk * filled_at_once, bytes);
  }

  failure put(std::size_t chunk)
  {
    if (failure trouble = make_present(chunk)) {
      return trouble;
    }
    const std::size_t first = chunk * filled_at_once;
    const std::size_t last = first + length(chunk);
    const auto ends_after = [](std::size_t place, const source_piece& one) { return place < one.offset + one.bytes; };
    for (auto one = std::upper_bound(pieces_.begin(), pieces_.end(), first, ends_after);
         one != pieces_.end() && one->offset < last; ++one) {
      const std::size_t begin = std::max(first, one->offset);
      const std::size_t end = std::min(last, one->offset + one->bytes);
      if (!copy(parts_.mapped.address + begin, one->data + (begin - one->offset), end - begin)) {
        return {failure_kind::other, "the memory of the root, which could be read at first, can't be read any more"};
      }
    }
    return {};
  }

 private:
  bool copy(std::byte* to, const std::byte* from, std::size_t bytes) const
  {
    if (root_ == 0) {
      copy_bytes(to, from, bytes);
      return true;
    }
    return linux_api::read_process(root_, from, to, bytes);
  }

  const segment_parts& parts_;
  const bool fresh_;
  const look_ahead& look_;
  pid_t root_ = 0;  // 0: this process is it
  std::vector<source_piece> pieces_;
};

}  // namespace

failure fill(control_page& page, int node_rank, int root, const segment_parts& parts, bool fresh, const look_ahead& look)
{
  filler mine(parts, fresh, look);
  const auto block_by = [&](int rank) {
    return block_of(mine.chunks(), static_cast<std::size_t>(rank), static_cast<std::size_t>(page.ranks));
  };
  if (!mine.find_pieces(page.record(root), node_rank == root)) {
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
      if (failure trouble = mine.put(chunk)) {
        return trouble;
      }
    }
  }
  return {};
}

}  // namespace nodeshare
