// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/work.hpp"

#include <algorithm>
#include <atomic>

#include "linux.hpp"
#include "meeting.hpp"
#include "nodeshare/error.hpp"

namespace nodeshare {
namespace {

std::size_t ranks_before(const topology_state& where, int node)
{
  std::size_t out = 0;
  for (int one = 0; one < node; ++one) {
    out += where.ranks_on[static_cast<std::size_t>(one)].size();
  }
  return out;
}

std::pair<std::size_t, std::size_t> range_of(const topology_state& where, int node, std::size_t count)
{
  const auto size = static_cast<std::size_t>(where.size);
  return {block_of(count, ranks_before(where, node), size).first,
          block_of(count, ranks_before(where, node + 1), size).first};
}

std::string arguments_of(std::size_t count, std::size_t chunk, schedule how)
{
  return std::to_string(count) + (chunk == 0 ? "" : ", chunk=" + std::to_string(chunk)) +
         (how == schedule::fixed ? ", schedule=static" : "");
}

}  // namespace

struct work::cells {
  /// One rank's share, written by it alone, read by all when the work is looked at.
  struct alignas(64) share {
    std::atomic<std::uint64_t> first;  ///< of the indices it took last, those not known to be done
    std::atomic<std::uint64_t> last;
    std::atomic<std::uint64_t> done;  ///< how many it has done
    std::atomic<std::uint32_t> left;
  };

  std::atomic<std::uint64_t> next;  ///< first index of the node's block that nobody has taken
  std::atomic<std::uint32_t> stopped;
  share of[1];  ///< by node rank; there are as many as ranks
};

work::cells& work::shared() const noexcept { return *reinterpret_cast<cells*>(cells_->data()); }

work::work(const topology& where, std::size_t count, std::size_t chunk, schedule how, std::source_location place)
    : work(call("work", arguments_of(count, chunk, how), place), node::of(where), count, chunk, how)
{}

work::work(const call& what, const std::shared_ptr<node>& home, std::size_t count, std::size_t chunk, schedule how,
           bool more)
    : count_(count),
      chunk_(chunk),
      how_(how),
      range_(range_of(home->where(), home->where().node_index, count)),
      cells_(home->create(
          what, {.bytes = sizeof(cells) + sizeof(cells::share) * static_cast<std::size_t>(home->where().node_size())},
          more))
{}

std::optional<std::pair<std::size_t, std::size_t>> work::next()
{
  if (linux_api::forked()) {
    throw error("this process was forked from a rank: it takes no part in a work, of which the rank has its share");
  }
  const topology_state& where = cells_->home()->where();
  const auto ranks = static_cast<std::size_t>(where.node_size());
  cells::share& mine = shared().of[where.node_rank];
  if (mine.left.load() != 0) {
    return std::nullopt;
  }
  const std::uint64_t before = mine.last.load() - mine.first.load();
  mine.first.store(mine.last.load());
  mine.done.fetch_add(before);

  const std::size_t block = range_.second - range_.first;
  std::uint64_t first = 0;  // counted within the node's block
  std::uint64_t last = 0;
  if (how_ == schedule::fixed) {
    const auto all = block_of(block, static_cast<std::size_t>(where.node_rank), ranks);
    first = all.first + mine.done.load();
    last = chunk_ == 0 ? all.second : first + std::min<std::uint64_t>(all.second - first, chunk_);
  } else {
    first = shared().next.load();
    do {
      const std::uint64_t left = block - std::min<std::uint64_t>(first, block);
      const std::uint64_t guided = std::max<std::uint64_t>(1, left / (4 * ranks));
      last = first + std::min<std::uint64_t>(left, chunk_ == 0 ? guided : chunk_);
    } while (last > first && !shared().next.compare_exchange_weak(first, last));
  }
  if (last <= first) {
    mine.left.store(1);
    return std::nullopt;
  }
  mine.first.store(first);
  mine.last.store(last);
  return std::pair{range_.first + first, range_.first + last};
}

void work::leave(std::size_t done_until)
{
  if (linux_api::forked()) {
    return;
  }
  cells::share& mine = shared().of[cells_->home()->where().node_rank];
  const std::uint64_t until = std::clamp<std::uint64_t>(done_until < range_.first ? 0 : done_until - range_.first,
                                                        mine.first.load(), mine.last.load());
  mine.done.fetch_add(until - mine.first.load());
  mine.first.store(until);
  mine.left.store(1);
}

void work::stop() noexcept { shared().stopped.store(1); }

bool work::stopped() const noexcept { return shared().stopped.load() != 0; }

std::size_t work::done_on_node() const noexcept
{
  std::size_t out = 0;
  for (int rank = 0; rank < cells_->home()->where().node_size(); ++rank) {
    out += shared().of[rank].done.load();
  }
  return out;
}

std::vector<row_block> work::owners() const
{
  const topology_state& where = cells_->home()->where();
  std::vector<row_block> out;
  for (int node = 0; node < where.node_count; ++node) {
    const auto [first, last] = range_of(where, node, count_);
    out.push_back({first, last, node});
  }
  return out;
}

std::string work::missing() const
{
  const topology_state& where = cells_->home()->where();
  std::string out;
  const auto name = [&](std::uint64_t first, std::uint64_t last, const std::string& why) {
    out += (out.empty() ? "" : "; ") + std::string("indices ") + std::to_string(range_.first + first) + " to " +
           std::to_string(range_.first + last - 1) + " (" + why + ")";
  };
  const std::size_t block = range_.second - range_.first;
  for (int rank = 0; rank < where.node_size(); ++rank) {
    const cells::share& its = shared().of[rank];
    const std::uint64_t first = its.first.load();
    const std::uint64_t last = its.last.load();
    const std::string who =
        "rank " +
        std::to_string(where.ranks_on[static_cast<std::size_t>(where.node_index)][static_cast<std::size_t>(rank)]);
    if (last > first) {
      name(first, last, who + " left before it had done them");
    }
    if (how_ == schedule::fixed) {
      const auto all = block_of(block, static_cast<std::size_t>(rank), static_cast<std::size_t>(where.node_size()));
      if (const std::uint64_t taken = std::max<std::uint64_t>(all.first, last); taken < all.second) {
        name(taken, all.second, who + " has not come to them");
      }
    }
  }
  if (how_ == schedule::dynamic && shared().next.load() < block) {
    name(shared().next.load(), block, "nobody took them");
  }
  return out;
}

void allgather(const call& what, const std::shared_ptr<segment>& memory, const row_layout& layout, const work& done)
{
  meeting_place& meetings = memory->home()->meetings();
  failure trouble;
  if (layout.rows != done.count()) {
    trouble = {failure_kind::invalid_argument, "the array has " + count_of(layout.rows, "row") +
                                                   ", but the work dealt " + std::to_string(done.count()) + " indices"};
  } else if (done.home() != memory->home()) {
    trouble = {failure_kind::invalid_argument, "the work and the array belong to different communicators"};
  }
  const auto unfinished = [&] {
    const std::string missing = done.missing();
    return missing.empty() ? "" : "the work is not finished: " + missing;
  };
  try {
    meetings.agree(what, trouble, scope::communicator, true);
  } catch (const peer_error& why) {  // most often of a rank that ended: what did it take along?
    const std::string also = unfinished();
    throw peer_error(why.what() + (also.empty() ? "" : "; " + also));
  }
  if (const std::string why = unfinished(); !why.empty()) {
    trouble = {failure_kind::other, why};
  }
  meetings.agree(what, trouble, scope::communicator, true);
  allgather(what, memory, layout, done.owners());
}

}  // namespace nodeshare
