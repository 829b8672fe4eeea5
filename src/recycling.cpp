// SPDX-License-Identifier: BSD-3-Clause
#include "recycling.hpp"

#include <algorithm>
#include <chrono>
#include <vector>

#include "cgroup.hpp"
#include "linux.hpp"
#include "wait.hpp"

namespace nodeshare {
namespace {

using segment_word::holders;
using segment_word::mappings;

constexpr std::uint64_t idle_share = 8;                      // one part in eight of what is free
constexpr std::size_t worth_looking = std::size_t{1} << 20;  // below, the bound seen last counts
constexpr std::int64_t look_again_after = 20'000'000;        // ns; a look takes as long as making the memory: 40 us
constexpr std::size_t most_spares = 64;
constexpr std::size_t most_waste = 2;  // memory of twice the size needed is used again, larger one is not

}  // namespace

recycler::recycler(std::shared_ptr<control_page> page, std::string window_directory)
    : page_(std::move(page)), window_directory_(std::move(window_directory))
{
}

recycler::~recycler()
{
  const std::lock_guard lock(mutex_);
  for (auto& [place, one] : spares_) {
    if (!retire(place, one)) {
      page_->word_of(place).fetch_or(segment_word::retired, std::memory_order_relaxed);
    }
    unmap(one.mapped);
    forget_mapping(place, segment_word::mapping);
  }
}

void recycler::let_go(segment_parts& parts) noexcept
{
  std::atomic<std::uint64_t>& word = *parts.word;
  std::uint64_t seen = word.load(std::memory_order_acquire);
  const std::lock_guard lock(mutex_);
  if (finalized.load(std::memory_order_relaxed) || page_->header().ended.load(std::memory_order_relaxed) != 0) {
    seen |= segment_word::retired;  // there will be no next segment
    word.fetch_or(segment_word::retired, std::memory_order_relaxed);
  }
  if ((seen & segment_word::retired) == 0) {
    // before this rank is counted out: from then on the leader may choose it, and it must be found here
    const auto mine = spares_.insert_or_assign(parts.place, spare{parts.mapped, parts.kind}).first;
    bool asked = false;
    bool keep = true;
    while ((seen & segment_word::retired) == 0) {
      std::uint64_t wanted = seen - segment_word::holder;
      if (holders(seen) == 1) {
        if (!asked) {
          asked = true;
          keep = worth_keeping(parts);
          if (!keep) {
            linux_api::punch(parts.mapped.address, parts.mapped.bytes);  // this rank is the last that has a view
          }
        }
        wanted |= keep ? 0 : segment_word::retired;
      }
      if (word.compare_exchange_weak(seen, wanted, std::memory_order_acq_rel)) {
        if (holders(wanted) == 0 && keep) {
          page_->header().idle_bytes.fetch_add(parts.mapped.bytes, std::memory_order_relaxed);
        } else if (!keep) {
          page_->header().retirements.fetch_add(1, std::memory_order_release);
          drop(mine);
        }
        parts.mapped = {};
        return;
      }
    }
    spares_.erase(mine);  // retired meanwhile
  }
  page_->header().retirements.fetch_add(1, std::memory_order_release);
  if (is_held(parts.mapped)) {
    spares_.insert_or_assign(parts.place, spare{parts.mapped, parts.kind});
    word.fetch_sub(segment_word::holder, std::memory_order_acq_rel);
    return;
  }
  unmap(parts.mapped);
  forget_mapping(parts.place, segment_word::holder + segment_word::mapping);
}

void recycler::give_up(const segment_plan& chosen) noexcept
{
  const std::lock_guard lock(mutex_);
  page_->header().idle_bytes.fetch_add(spares_.at(chosen.place).mapped.bytes, std::memory_order_relaxed);
  page_->word_of(chosen.place)
      .fetch_sub(static_cast<std::uint64_t>(page_->ranks) * segment_word::holder, std::memory_order_acq_rel);
}

/// At most an eighth of what is free may lie idle, or other programs would miss it.
bool recycler::worth_keeping(const segment_parts& parts) const noexcept
{
  page_header& header = page_->header();
  std::uint64_t bound = header.most_idle.load(std::memory_order_relaxed);
  const std::int64_t now = std::chrono::nanoseconds(std::chrono::steady_clock::now().time_since_epoch()).count();
  const bool long_ago = now - header.looked_at.load(std::memory_order_relaxed) > look_again_after;
  if ((parts.mapped.bytes >= worth_looking && long_ago) || bound == 0) {
    header.looked_at.store(now, std::memory_order_relaxed);
    std::uint64_t available = linux_api::memory_available().value_or(0);
    if (const auto group = headroom()) {
      available = std::min(available, group->bytes);
    }
    if (parts.kind == memory_kind::window) {
      if (const auto space = linux_api::space_of(window_directory_); space && !space->unlimited) {
        available = std::min(available, space->free);
      }
    }
    bound = available / idle_share;
    header.most_idle.store(bound, std::memory_order_relaxed);
  }
  return header.idle_bytes.load(std::memory_order_relaxed) + parts.mapped.bytes <= bound;
}

bool recycler::choose(std::size_t bytes, segment_plan& out)
{
  const std::lock_guard lock(mutex_);
  const std::size_t needed = pages_for(bytes);
  std::vector<spares::iterator> idle;
  for (auto one = spares_.begin(); one != spares_.end(); ++one) {
    const std::uint64_t word = page_->word_of(one->first).load(std::memory_order_acquire);
    if (holders(word) == 0 && (word & segment_word::retired) == 0 &&
        mappings(word) == static_cast<std::uint32_t>(page_->ranks)) {
      idle.push_back(one);
    }
  }
  const auto size = [](spares::iterator one) { return one->second.mapped.bytes; };
  const auto fits = [&](spares::iterator one) { return size(one) >= needed && size(one) / most_waste <= needed; };
  auto best = idle.end();
  for (auto one = idle.begin(); one != idle.end(); ++one) {
    if (fits(*one) && (best == idle.end() || size(*one) < size(*best))) {
      best = one;
    }
  }
  const std::size_t surplus = spares_.size() - std::min(spares_.size(), most_spares);
  for (auto one = idle.begin(); one != idle.begin() + static_cast<std::ptrdiff_t>(std::min(surplus, idle.size())); ++one) {
    if (one != best && retire((*one)->first, (*one)->second)) {
      page_->header().retirements.fetch_add(1, std::memory_order_release);
    }
  }
  if (best == idle.end()) {
    return false;
  }
  out.place = (*best)->first;
  out.kind = (*best)->second.kind;
  out.recycled = true;
  std::atomic<std::uint64_t>& word = page_->word_of(out.place);
  std::uint64_t seen = word.load(std::memory_order_acquire);
  while ((seen & segment_word::retired) == 0) {
    if (word.compare_exchange_weak(seen, seen + static_cast<std::uint64_t>(page_->ranks) * segment_word::holder,
                                   std::memory_order_acq_rel)) {
      page_->header().idle_bytes.fetch_sub((*best)->second.mapped.bytes, std::memory_order_relaxed);
      return true;
    }
  }
  return false;
}

mapping recycler::take(std::uint32_t place)
{
  const std::lock_guard lock(mutex_);
  const auto one = spares_.find(place);
  const mapping mapped = one->second.mapped;
  spares_.erase(one);
  return mapped;
}

void recycler::drop_retired() noexcept
{
  const std::uint32_t retirements = page_->header().retirements.load(std::memory_order_acquire);
  if (retirements == retirements_known_) {
    return;
  }
  retirements_known_ = retirements;
  const std::lock_guard lock(mutex_);
  for (auto one = spares_.begin(); one != spares_.end();) {
    const bool gone = (page_->word_of(one->first).load(std::memory_order_acquire) & segment_word::retired) != 0;
    one = gone ? drop(one) : std::next(one);
  }
}

void recycler::drop_idle(bool by_all) noexcept
{
  const std::lock_guard lock(mutex_);
  for (auto one = spares_.begin(); one != spares_.end();) {
    one = retire(one->first, one->second, !by_all) ? drop(one) : std::next(one);
  }
}

void recycler::choose_windows_to_free() noexcept
{
  const std::lock_guard lock(mutex_);
  for (const auto& [place, one] : spares_) {
    std::atomic<std::uint64_t>& word = page_->word_of(place);
    const std::uint64_t seen = word.load(std::memory_order_acquire);
    if (is_held(one.mapped) && holders(seen) == 0 && (seen & segment_word::retired) != 0) {
      word.fetch_or(segment_word::freed, std::memory_order_release);
    }
  }
}

void recycler::free_windows() noexcept
{
  spares chosen;
  {
    const std::lock_guard lock(mutex_);
    for (auto one = spares_.begin(); one != spares_.end();) {
      const auto next = std::next(one);
      if ((page_->word_of(one->first).load(std::memory_order_acquire) & segment_word::freed) != 0) {
        chosen.insert(spares_.extract(one));
      }
      one = next;
    }
  }
  free_these(std::move(chosen));
}

void recycler::free_all_windows() noexcept
{
  spares all;
  {
    const std::lock_guard lock(mutex_);
    all.swap(spares_);
  }
  free_these(std::move(all));
}

/// In the same order on all ranks: that of their places.
void recycler::free_these(spares&& windows) noexcept
{
  for (auto& [place, one] : windows) {
    free_window(one.mapped);
    forget_mapping(place, segment_word::mapping);
  }
}

std::size_t recycler::idle_bytes() const noexcept
{
  const std::lock_guard lock(mutex_);
  std::size_t total = 0;
  for (const auto& [place, one] : spares_) {
    const std::uint64_t word = page_->word_of(place).load(std::memory_order_relaxed);
    total += holders(word) == 0 && (word & segment_word::retired) == 0 ? one.mapped.bytes : 0;
  }
  return total;
}

/// Whether it is retired now; memory that somebody holds is not. Where others keep their mappings for a while, ranks or
/// children of this one, its pages are given back here; that takes as long as all else of a creation and its end.
bool recycler::retire(std::uint32_t place, const spare& one, bool kept_by_ranks) noexcept
{
  std::atomic<std::uint64_t>& word = page_->word_of(place);
  std::uint64_t seen = word.load(std::memory_order_acquire);
  bool by_me = false;
  while (!by_me && (seen & segment_word::retired) == 0) {
    if (holders(seen) != 0) {
      return false;
    }
    by_me = word.compare_exchange_weak(seen, seen | segment_word::retired, std::memory_order_acq_rel);
  }
  if (by_me) {
    page_->header().idle_bytes.fetch_sub(one.mapped.bytes, std::memory_order_relaxed);
  }
  if (holders(seen) == 0 && ((by_me && kept_by_ranks) || linux_api::has_forked())) {
    linux_api::punch(one.mapped.address, one.mapped.bytes);
  }
  return true;
}

recycler::spares::iterator recycler::drop(spares::iterator one) noexcept
{
  if (is_held(one->second.mapped)) {
    return std::next(one);  // until all free it
  }
  unmap(one->second.mapped);
  forget_mapping(one->first, segment_word::mapping);
  return spares_.erase(one);
}

/// The last rank that maps it frees the place of its word.
void recycler::forget_mapping(std::uint32_t place, std::uint64_t what) noexcept
{
  std::atomic<std::uint64_t>& word = page_->word_of(place);
  if (const std::uint64_t left = word.fetch_sub(what, std::memory_order_acq_rel) - what; mappings(left) == 0) {
    word.store(0, std::memory_order_release);
  }
}

}  // namespace nodeshare
