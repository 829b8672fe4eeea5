// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// How a node comes to memory: each rank looks, the leader plans, all take; what none has room for is given back.
#include <unistd.h>

#include <algorithm>
#include <span>
#include <utility>

#include "copying.hpp"
#include "filling.hpp"
#include "limits.hpp"
#include "linux.hpp"
#include "meeting.hpp"
#include "nodeshare/error.hpp"
#include "nodeshare/node.hpp"
#include "recycling.hpp"
#include "wait.hpp"

namespace nodeshare {
namespace {

/// By the leader: a free place for a segment's word, which counts all ranks from now on.
failure take_place(control_page& page, std::uint64_t& next, bool reserve, std::uint32_t& out)
{
  for (std::uint32_t tried = 0; tried < most_segments; ++tried) {
    const bool first_round = next < most_segments;
    const auto place = static_cast<std::uint32_t>(next++ % most_segments);
    auto& word = page.word_of(place);
    const std::size_t page_size = linux_api::page_size();
    // once: older systems write zeros to make pages present
    if (const auto start = reinterpret_cast<std::uintptr_t>(&word); first_round && start % page_size == 0) {
      if (const failure trouble = linux_api::populate(reinterpret_cast<std::byte*>(start), page_size)) {
        return trouble;
      }
    }
    if (word.load(std::memory_order_acquire) == 0) {
      word.store(static_cast<std::uint64_t>(page.ranks) * (segment_word::holder + segment_word::mapping) +
                     (reserve ? segment_word::reserved : 0),
                 std::memory_order_relaxed);
      out = place;
      return {};
    }
  }
  return out_of_memory(std::to_string(most_segments) + " arrays are alive on this node: close some, or make fewer and "
                                                       "larger ones");
}

/// This rank's block of a segment's pages.
std::span<std::byte> my_pages(const topology_state& where, const mapping& memory, std::size_t bytes)
{
  const std::size_t page = linux_api::page_size();
  const auto [first, last] = block_of(pages_for(bytes) / page, static_cast<std::size_t>(where.node_rank),
                                      static_cast<std::size_t>(where.node_size()));
  return {memory.address + first * page, (last - first) * page};
}

/// This rank's share of making used pages as good as new.
failure take_used_pages(std::span<std::byte> mine, int ranks, bool reserve, bool reserved, content wanted)
{
  if (wanted == content::zeros && !reserve && linux_api::punch(mine.data(), mine.size())) {
    return {};  // nothing is taken before it is touched
  }
  if ((reserve || wanted == content::zeros) && !reserved) {
    if (failure trouble = populate(mine, look_ahead_of(ranks))) {
      return trouble;
    }
  }
  if (wanted == content::zeros) {
    clear(mine.data(), mine.size());
  }
  return {};
}

}  // namespace

std::shared_ptr<segment> node::create(const call& what, const memory_request& wanted, bool more)
{
  meetings_->require_communicator();
  try {
    return try_to_create(what, wanted, more);
  } catch (const out_of_shared_memory&) {
    give_way(what);  // as all ranks do: a lack of memory is agreed on
  }
  return try_to_create(what, wanted, more);
}

std::shared_ptr<segment> node::try_to_create(const call& what, const memory_request& wanted, bool more)
{
  control_page& page = meetings_->page();
  segment_plan& plan = page.header().plan;
  const bool leads = where_->node_rank == 0;
  const auto in_full = [&](failure trouble) {
    if (!trouble.text.empty()) {
      trouble.text = std::string(what.name) + " needs " + bytes_text(wanted.bytes) + " on each node: " + trouble.text;
    }
    return trouble;
  };

  rank_record& mine = page.record(where_->node_rank);
  mine.source = reinterpret_cast<std::uintptr_t>(wanted.data.data());
  mine.sources = wanted.data.size();
  mine.claimed.store(0, std::memory_order_relaxed);
  const failure objection =
      in_full(look_at_limits(*where_, mine, window_directory_, wanted.bytes, wanted.reserve));
  bool planned = false;
  try {
    meetings_->agree(what, objection, scope::communicator, true, [&] {
      const failure trouble = in_full(make_plan(wanted, plan));
      planned = !trouble;
      return trouble;
    });
  } catch (...) {
    if (planned) {
      drop_plan(plan);
    }
    throw;
  }

  const segment_plan chosen = plan;
  segment_parts parts;
  parts.bytes = wanted.bytes;
  parts.kind = chosen.kind;
  parts.owner = recycler_.get();
  parts.place = chosen.place;
  parts.word = &page.word_of(chosen.place);
  parts.home = shared_from_this();
  recycler_->drop_retired();
  recycler_->free_windows();
  try {
    meetings_->agree(what, in_full(take_memory(chosen, wanted, parts)), scope::communicator, more);
  } catch (...) {
    if (!chosen.recycled) {
      parts.word->fetch_or(segment_word::retired, std::memory_order_relaxed);
    }
    recycler_->let_go(parts);
    throw;
  }
  if (chosen.recycled && wanted.reserve && leads && parts.mapped.bytes == pages_for(wanted.bytes)) {
    parts.word->fetch_or(segment_word::reserved, std::memory_order_relaxed);
  }
  static const std::uint64_t files = linux_api::raise_open_files();
  if (parts.mapped.file >= 0 && static_cast<std::uint64_t>(parts.mapped.file) > files / 2) {
    ::close(std::exchange(parts.mapped.file, -1));  // works on without; it can't be pickled to other processes
  }
  parts.id = ++segments_;
  parts.description = text_of(what);
  return make_segment(std::move(parts));
}

/// By the leader, when all have let go of what they will: where the memory is to come from.
failure node::make_plan(const memory_request& wanted, segment_plan& plan)
{
  control_page& page = meetings_->page();
  plan = {};
  const bool recycled = recycler_->choose(wanted.bytes, plan);
  recycler_->choose_windows_to_free();
  if (recycled) {
    if (!wanted.reserve && wanted.holds == content::zeros) {
      // its pages are given back
      page.word_of(plan.place).fetch_and(~segment_word::reserved, std::memory_order_relaxed);
    }
    return {};
  }
  failure trouble = choose_memory(*where_, page, plan.kind);
  if (!trouble) {
    trouble = look_at_groups(*where_, page, wanted.bytes);
  }
  if (trouble) {
    return trouble;
  }
  trouble = take_place(page, next_place_, wanted.reserve, plan.place);
  if (!trouble && (trouble = provider_of(plan.kind).offer(wanted.bytes, plan.offered))) {
    page.word_of(plan.place).store(0, std::memory_order_release);
  }
  return trouble;
}

/// By the leader: another node can't.
void node::drop_plan(const segment_plan& plan)
{
  if (plan.recycled) {
    recycler_->give_up(plan);
    return;
  }
  if (plan.offered.file >= 0) {
    ::close(plan.offered.file);
  }
  meetings_->page().word_of(plan.place).store(0, std::memory_order_release);
}

/// Between the two agreements of a creation: whatever goes wrong here is reported in the second, so all come to it.
failure node::take_memory(const segment_plan& chosen, const memory_request& wanted, segment_parts& parts)
{
  if (chosen.recycled) {
    parts.mapped = recycler_->take(chosen.place);
  } else {
    const provider& source = provider_of(chosen.kind);
    if (failure trouble = source.map(where_->node, where_->node_rank == 0, chosen.offered, parts.bytes, parts.mapped)) {
      return trouble;
    }
    linux_api::advise(parts.mapped.address, parts.mapped.bytes);  // before pages are taken, or they are small ones
  }
  const bool reserved = chosen.recycled && (parts.word->load(std::memory_order_relaxed) & segment_word::reserved) != 0;
  const int ranks = where_->ranks_on_host;
  if (wanted.source >= 0 && where_->node_of[static_cast<std::size_t>(wanted.source)] == where_->node_index) {
    const auto& all = where_->ranks_on[static_cast<std::size_t>(where_->node_index)];
    const auto root = static_cast<int>(std::find(all.begin(), all.end(), wanted.source) - all.begin());
    return fill(meetings_->page(), where_->node_rank, root, parts, !reserved, look_ahead_of(ranks));
  }
  const std::span<std::byte> mine = my_pages(*where_, parts.mapped, parts.bytes);
  // New pages that hold something already (a stale backing file, a device that placed them) are given back: fresh ones
  // are zero. Where that can't be, they are as good as used ones.
  if (!chosen.recycled && linux_api::punch(mine.data(), mine.size())) {
    return wanted.reserve ? populate(mine, look_ahead_of(ranks)) : failure{};
  }
  return take_used_pages(mine, ranks, wanted.reserve, reserved, wanted.holds);
}

/// Collective over the communicator: idle memory goes, and what only garbage holds; of other communicators too.
void node::give_way(const call& what)
{
  if (hooks.collect_garbage != nullptr) {
    hooks.collect_garbage();
  }
  meetings_->agree(what, {}, scope::communicator, true);  // all have let go of what they will
  drop_all_idle();
  free_dropped(what, true);
}

}  // namespace nodeshare
