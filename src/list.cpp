// SPDX-License-Identifier: BSD-3-Clause
#include "list.hpp"

#include <algorithm>
#include <atomic>
#include <mutex>
#include <stdexcept>
#include <utility>

#include "owner.hpp"

namespace nodeshare {

/// In the front of the heap; changed by the owner of the line alone.
struct list_words {
  owner_line line;
  std::atomic<std::uint64_t> size;
  std::atomic<std::uint64_t> changes;
  table<heap::block> row;
};

list::list(const call& what, const std::shared_ptr<node>& home, std::size_t capacity) : list(heap(what, home, capacity))
{}

list::list(std::shared_ptr<segment> memory) : list(heap(std::move(memory))) {}

list::list(heap of)
    : heap_(std::move(of)),
      words_(reinterpret_cast<list_words*>(heap_.front().data())),
      lock_(heap_.memory(), static_cast<std::size_t>(heap_.front().data() - heap_.memory()->data()))
{}

std::size_t list::size() const noexcept { return words_->size.load(std::memory_order_relaxed); }

std::uint64_t list::changes() const noexcept { return words_->changes.load(std::memory_order_acquire); }

heap::block* list::place_of(std::ptrdiff_t index)
{
  const auto size = static_cast<std::ptrdiff_t>(words_->size.load(std::memory_order_relaxed));
  if (index < -size || index >= size) {
    throw std::out_of_range("list index out of range");
  }
  return words_->row.in(heap_) + (index < 0 ? index + size : index);
}

taken list::get(std::ptrdiff_t index)
{
  const std::scoped_lock hold(lock_);
  return {heap_, *place_of(index)};
}

void list::set(std::ptrdiff_t index, const parts& value)
{
  {
    const std::scoped_lock hold(lock_);
    if (overwrite(heap_, *place_of(index), value)) {
      words_->changes.fetch_add(1, std::memory_order_release);
      return;
    }
  }
  new_block fresh(heap_, value);
  std::unique_lock hold(lock_);
  const heap::block old = std::exchange(*place_of(index), fresh.block());
  fresh.hand_over();
  words_->changes.fetch_add(1, std::memory_order_release);
  hold.unlock();
  heap_.release(old);
}

void list::insert(std::ptrdiff_t index, std::span<const parts> values)
{
  std::vector<new_block> fresh;
  fresh.reserve(values.size());
  for (const parts& value : values) {
    fresh.emplace_back(heap_, value);
  }
  const std::scoped_lock hold(lock_);
  const auto size = words_->size.load(std::memory_order_relaxed);
  const std::uint64_t wanted = size + fresh.size();
  if (wanted > words_->row.room) {
    const auto larger = make_table<heap::block>(heap_, std::max<std::uint64_t>(wanted, 2 * size));
    std::copy_n(words_->row.in(heap_), size, larger.in(heap_));
    release(heap_, std::exchange(words_->row, larger));
  }
  heap::block* const row = words_->row.in(heap_);
  const auto end = static_cast<std::ptrdiff_t>(size);
  heap::block* const place = row + std::clamp<std::ptrdiff_t>(index < 0 ? index + end : index, 0, end);
  std::copy_backward(place, row + end, row + wanted);
  std::transform(fresh.begin(), fresh.end(), place, [](new_block& one) { return one.hand_over(); });
  words_->size.store(wanted, std::memory_order_relaxed);
  words_->changes.fetch_add(1, std::memory_order_release);
}

taken list::pop(std::ptrdiff_t index)
{
  std::unique_lock hold(lock_);
  heap::block* const place = place_of(index);
  const heap::block old = *place;
  taken out(heap_, old);
  const auto size = words_->size.load(std::memory_order_relaxed);
  std::copy(place + 1, words_->row.in(heap_) + size, place);
  words_->size.store(size - 1, std::memory_order_relaxed);
  words_->changes.fetch_add(1, std::memory_order_release);
  hold.unlock();
  heap_.release(old);
  return out;
}

list::contents list::some(const std::function<std::vector<std::size_t>(std::size_t size)>& which)
{
  const std::scoped_lock hold(lock_);
  contents out{words_->changes.load(std::memory_order_relaxed), {}};
  const std::vector<std::size_t> wanted = which(words_->size.load(std::memory_order_relaxed));
  out.values.reserve(wanted.size());
  for (const std::size_t i : wanted) {
    out.values.emplace_back(heap_, words_->row.in(heap_)[i]);
  }
  return out;
}

/// By the owner of the line. What is to be released then: the old row, and the values that are in none.
std::vector<heap::block> list::put_in_order(std::span<const std::int64_t> order, std::span<new_block> fresh)
{
  const std::span<heap::block> before(words_->row.in(heap_), words_->size.load(std::memory_order_relaxed));
  std::vector<bool> kept(before.size());
  std::vector<heap::block> dropped;
  dropped.reserve(before.size() + 1);
  const auto row = make_table<heap::block>(heap_, order.size());
  std::transform(order.begin(), order.end(), row.in(heap_), [&](std::int64_t place) {
    if (place < 0) {
      return fresh[static_cast<std::size_t>(-1 - place)].hand_over();
    }
    kept[static_cast<std::size_t>(place)] = true;
    return before[static_cast<std::size_t>(place)];
  });
  for (std::size_t i = 0; i < before.size(); ++i) {
    if (!kept[i]) {
      dropped.push_back(before[i]);
    }
  }
  if (const auto old = std::exchange(words_->row, row); old.block) {
    dropped.push_back(old.block);
  }
  words_->size.store(order.size(), std::memory_order_relaxed);
  words_->changes.fetch_add(1, std::memory_order_release);
  return dropped;
}

void list::rearrange(const arrangement& wanted, std::span<const parts> fresh)
{
  std::vector<new_block> blocks;
  blocks.reserve(fresh.size());
  for (const parts& value : fresh) {
    blocks.emplace_back(heap_, value);
  }
  std::unique_lock hold(lock_);
  const auto dropped = put_in_order(wanted(words_->size.load(std::memory_order_relaxed)), blocks);
  hold.unlock();
  for (const heap::block one : dropped) {
    heap_.release(one);
  }
}

bool list::rearrange_unchanged(std::uint64_t changes, std::span<const std::int64_t> order)
{
  std::unique_lock hold(lock_);
  if (words_->changes.load(std::memory_order_relaxed) != changes) {
    return false;
  }
  const auto dropped = put_in_order(order, {});
  hold.unlock();
  for (const heap::block one : dropped) {
    heap_.release(one);
  }
  return true;
}

}  // namespace nodeshare
