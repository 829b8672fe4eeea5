// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Entries in the order of insertion, and an index of them by hash, which ends each search at its first free place (as
/// Python's own dict since 3.6). Entries that are gone keep their places until both are made anew.
#include "dict.hpp"

#include <algorithm>
#include <atomic>
#include <bit>
#include <functional>
#include <mutex>
#include <string_view>
#include <utility>

#include "owner.hpp"

namespace nodeshare {

struct dict_entry {
  std::uint64_t hash;
  heap::block value;  ///< none: gone
};

/// In the front of the heap; changed by the owner of the line alone.
struct dict_words {
  owner_line line;
  std::atomic<std::uint64_t> size;
  std::uint64_t begun;         ///< entries, with those that are gone
  std::uint64_t indexed;       ///< places of the index that are not free
  table<dict_entry> entries;   ///< as many as a power of 2
  table<std::uint64_t> index;  ///< by hash, the number of an entry, counted from 1; twice as many places as entries
};

namespace {

constexpr std::uint64_t least_entries = 8;

std::uint64_t hash_of(const_bytes key)
{
  return std::hash<std::string_view>{}({reinterpret_cast<const char*>(key.data()), key.size()});
}

}  // namespace

dict::dict(const call& what, const std::shared_ptr<node>& home, std::size_t capacity) : dict(heap(what, home, capacity))
{}

dict::dict(std::shared_ptr<segment> memory) : dict(heap(std::move(memory))) {}

dict::dict(heap of)
    : heap_(std::move(of)),
      words_(reinterpret_cast<dict_words*>(heap_.front().data())),
      lock_(heap_.memory(), static_cast<std::size_t>(heap_.front().data() - heap_.memory()->data()))
{}

std::size_t dict::size() const noexcept { return words_->size.load(std::memory_order_relaxed); }

/// Null if there is none.
dict_entry* dict::find(const_bytes key, std::uint64_t hash)
{
  if (words_->index.room == 0) {
    return nullptr;
  }
  const std::uint64_t* const index = words_->index.in(heap_);
  dict_entry* const entries = words_->entries.in(heap_);
  for (std::uint64_t place = hash;; ++place) {
    const std::uint64_t number = index[place & (words_->index.room - 1)];
    if (number == 0) {
      return nullptr;
    }
    dict_entry& one = entries[number - 1];
    if (one.hash == hash && one.value && std::ranges::equal(stored(heap_.at(one.value)).key(), key)) {
      return &one;
    }
  }
}

/// Entries and index anew if one of them is full, without what is gone.
void dict::make_room()
{
  if (std::max(words_->begun, words_->indexed) < words_->entries.room) {
    return;
  }
  const std::uint64_t room = std::bit_ceil(std::max(least_entries, 2 * words_->size.load(std::memory_order_relaxed)));
  const auto entries = make_table<dict_entry>(heap_, room);
  auto index = table<std::uint64_t>{};
  try {
    index = make_table<std::uint64_t>(heap_, 2 * room);
  } catch (...) {
    release(heap_, entries);
    throw;
  }
  std::fill_n(index.in(heap_), index.room, 0);
  const table<dict_entry> old_entries = std::exchange(words_->entries, entries);
  const table<std::uint64_t> old_index = std::exchange(words_->index, index);
  const dict_entry* const old = old_entries.in(heap_);
  const dict_entry* const end = old + std::exchange(words_->begun, 0);
  words_->indexed = 0;
  std::for_each(old, end, [this](const dict_entry& one) {
    if (one.value) {
      add(one);
    }
  });
  release(heap_, old_entries);
  release(heap_, old_index);
}

/// Behind all others; there is room.
void dict::add(const dict_entry& one) noexcept
{
  words_->entries.in(heap_)[words_->begun++] = one;
  std::uint64_t* const index = words_->index.in(heap_);
  std::uint64_t place = one.hash;
  while (index[place & (words_->index.room - 1)] != 0) {
    ++place;
  }
  index[place & (words_->index.room - 1)] = words_->begun;
  ++words_->indexed;
}

/// Its block is no longer the dict's.
heap::block dict::take_out(dict_entry& one) noexcept
{
  words_->size.fetch_sub(1, std::memory_order_relaxed);
  return std::exchange(one.value, {});
}

bool dict::contains(const_bytes key)
{
  const std::scoped_lock hold(lock_);
  return find(key, hash_of(key)) != nullptr;
}

std::optional<taken> dict::get(const_bytes key)
{
  const std::scoped_lock hold(lock_);
  const dict_entry* const one = find(key, hash_of(key));
  return one != nullptr ? std::optional<taken>(std::in_place, heap_, one->value) : std::nullopt;
}

void dict::set(const parts& value)
{
  const std::uint64_t hash = hash_of(value.key);
  {
    const std::scoped_lock hold(lock_);
    const dict_entry* const one = find(value.key, hash);
    if (one != nullptr && overwrite(heap_, one->value, value)) {
      return;
    }
  }
  new_block fresh(heap_, value);
  heap::block old;
  {
    const std::scoped_lock hold(lock_);
    if (dict_entry* const one = find(value.key, hash)) {
      old = std::exchange(one->value, fresh.block());
    } else {
      make_room();
      add({hash, fresh.block()});
      words_->size.fetch_add(1, std::memory_order_relaxed);
    }
    fresh.hand_over();
  }
  if (old) {
    heap_.release(old);
  }
}

std::optional<taken> dict::set_default(const parts& value)
{
  new_block fresh(heap_, value);
  const std::scoped_lock hold(lock_);
  const std::uint64_t hash = hash_of(value.key);
  if (const dict_entry* const one = find(value.key, hash)) {
    return std::optional<taken>(std::in_place, heap_, one->value);
  }
  make_room();
  add({hash, fresh.hand_over()});
  words_->size.fetch_add(1, std::memory_order_relaxed);
  return {};
}

std::optional<taken> dict::pop(const_bytes key)
{
  std::unique_lock hold(lock_);
  dict_entry* const one = find(key, hash_of(key));
  if (one == nullptr) {
    return {};
  }
  std::optional<taken> out(std::in_place, heap_, one->value);
  const heap::block old = take_out(*one);
  hold.unlock();
  heap_.release(old);
  return out;
}

std::optional<taken> dict::pop()
{
  std::unique_lock hold(lock_);
  dict_entry* const entries = words_->entries.in(heap_);
  while (words_->begun > 0 && !entries[words_->begun - 1].value) {
    --words_->begun;  // what the index says of its place is true for the next one there, too
  }
  if (words_->begun == 0) {
    return {};
  }
  dict_entry& last = entries[words_->begun - 1];
  std::optional<taken> out(std::in_place, heap_, last.value);
  const heap::block old = take_out(last);
  hold.unlock();
  heap_.release(old);
  return out;
}

void dict::clear()
{
  std::vector<heap::block> dropped;
  {
    const std::scoped_lock hold(lock_);
    for (dict_entry& one : entries()) {
      if (one.value) {
        dropped.push_back(take_out(one));
      }
    }
  }
  for (const heap::block one : dropped) {
    heap_.release(one);
  }
}

std::vector<std::vector<std::byte>> dict::keys()
{
  std::vector<std::vector<std::byte>> out;
  const std::scoped_lock hold(lock_);
  for (const dict_entry& one : entries()) {
    if (one.value) {
      const const_bytes key = stored(heap_.at(one.value)).key();
      out.emplace_back(key.begin(), key.end());
    }
  }
  return out;
}

std::vector<taken> dict::all()
{
  std::vector<taken> out;
  const std::scoped_lock hold(lock_);
  for (const dict_entry& one : entries()) {
    if (one.value) {
      out.emplace_back(heap_, one.value);
    }
  }
  return out;
}

std::span<dict_entry> dict::entries() const { return {words_->entries.in(heap_), words_->begun}; }

}  // namespace nodeshare
