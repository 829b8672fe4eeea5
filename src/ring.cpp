// SPDX-License-Identifier: BSD-3-Clause
#include "ring.hpp"

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <utility>

#include "change.hpp"
#include "owner.hpp"

namespace nodeshare {

/// A small value, or where a larger one is.
struct ring_slot {
  std::uint64_t bytes;  ///< of the value
  heap::block block;    ///< none: it lies here
  std::array<std::byte, 104> here;
};

/// In the front of a heap; what is not atomic is changed by the owner of the line alone.
struct ring_words {
  owner_line line;
  change_line changed;
  std::atomic<std::uint64_t> size;
  std::uint64_t first;  ///< number of the oldest value since the beginning; it lies in the slot of that number, modulo
  std::uint64_t bytes;  ///< of all values
  std::atomic<std::uint64_t> unfinished;
  std::uint64_t most_values;
  std::uint64_t most_bytes;
  table<ring_slot> slots;
};

namespace {

constexpr std::uint64_t least_slots = 8;
constexpr auto time_to_let_go = std::chrono::seconds(1);

bool is_full(const ring_words& words, std::uint64_t bytes) noexcept
{
  const std::uint64_t size = words.size.load(std::memory_order_relaxed);
  return (words.most_values != 0 && size >= words.most_values) ||
         (words.most_bytes != 0 && size > 0 && words.bytes + bytes > words.most_bytes);
}

}  // namespace

ring::ring(heap of, std::size_t place, std::string_view putting, std::string_view getting)
    : heap_(std::move(of)),
      words_(reinterpret_cast<ring_words*>(heap_.front().data() + place)),
      lock_(heap_.memory(), static_cast<std::size_t>(heap_.front().data() + place - heap_.memory()->data())),
      putting_(putting),
      getting_(getting)
{}

std::size_t ring::size_bytes() noexcept { return sizeof(ring_words); }

void ring::bound(std::uint64_t values, std::uint64_t bytes) noexcept
{
  words_->most_values = values;
  words_->most_bytes = bytes;
}

ring_slot& ring::slot(std::uint64_t number) const { return words_->slots.in(heap_)[number % words_->slots.room]; }

/// The owner of the line has one more value.
void ring::make_room()
{
  const std::uint64_t size = words_->size.load(std::memory_order_relaxed);
  if (size < words_->slots.room) {
    return;
  }
  const auto larger = make_table<ring_slot>(heap_, std::max(least_slots, 2 * size));
  for (std::uint64_t number = words_->first; number < words_->first + size; ++number) {
    larger.in(heap_)[number % larger.room] = slot(number);
  }
  release(heap_, std::exchange(words_->slots, larger));
}

/// Until an attempt succeeds. It hears whether the ring is over: what comes before that is seen by this attempt.
template <class Attempt>
bool ring::wait_until(double seconds, std::string_view routine, const is_over& over, const Attempt& attempt)
{
  change_wait wait(*heap_.memory(), words_->changed, seconds, routine);
  while (true) {
    const std::uint64_t seen = words_->changed.changes.load(std::memory_order_acquire);
    const bool last = over && over(wait.has_looked());
    if (attempt(last)) {
      return true;
    }
    if (last || !wait.wait(seen, over)) {
      return false;
    }
  }
}

bool ring::try_put(const ring_slot& item)
{
  const std::scoped_lock hold(lock_);
  if (is_full(*words_, item.bytes)) {
    return false;
  }
  make_room();
  slot(words_->first + words_->size.load(std::memory_order_relaxed)) = item;
  words_->bytes += item.bytes;
  words_->unfinished.fetch_add(1, std::memory_order_relaxed);
  words_->size.fetch_add(1, std::memory_order_release);
  return true;
}

/// Where bytes are bounded, whoever sends waits for room: of memory, too, as long as something lies unread that holds
/// it, and a little longer, since who receives that looks at it until he lets it go.
bool ring::try_to_allocate(std::optional<new_block>& out, const parts& value, clock::time_point& unread_at)
{
  try {
    out.emplace(heap_, value);
    return true;
  } catch (const out_of_shared_memory&) {
    const auto now = clock::now();
    if (size() > 0) {
      unread_at = now;
    }
    if (stored::bytes_for(value) >= heap_.capacity() || now - unread_at > time_to_let_go) {
      throw;
    }
    return false;
  }
}

bool ring::put(const parts& value, double seconds, const is_over& over)
{
  ring_slot item{.bytes = stored::bytes_for(value), .block = {}, .here = {}};
  std::optional<new_block> fresh;
  if (item.bytes <= item.here.size()) {
    stored::write(item.here.data(), value);
  } else if (words_->most_bytes == 0) {
    fresh.emplace(heap_, value);
    item.block = fresh->block();
  }
  const bool waits_for_memory = item.bytes > item.here.size() && !fresh;
  auto unread_at = clock::now();
  const auto attempt = [&](bool last) {
    if (last || (waits_for_memory && !fresh && !try_to_allocate(fresh, value, unread_at))) {
      return false;
    }
    item.block = fresh ? fresh->block() : heap::block{};
    return try_put(item);
  };
  if (!wait_until(seconds, putting_, over, attempt)) {
    return false;
  }
  if (fresh) {
    fresh->hand_over();
  }
  tell();
  return true;
}

std::optional<taken> ring::try_get()
{
  std::unique_lock hold(lock_);
  if (words_->size.load(std::memory_order_relaxed) == 0) {
    return {};
  }
  const ring_slot& item = slot(words_->first);
  const heap::block block = item.block;
  std::optional<taken> out = block ? std::optional<taken>(std::in_place, heap_, block)
                                   : std::optional<taken>(std::in_place, const_bytes(item.here).first(item.bytes));
  words_->bytes -= item.bytes;
  ++words_->first;
  words_->size.fetch_sub(1, std::memory_order_relaxed);
  hold.unlock();
  if (block) {
    heap_.release(block);
  }
  if (words_->most_values != 0 || words_->most_bytes != 0) {  // else nobody waits for room
    tell();
  }
  return out;
}

std::optional<taken> ring::get(double seconds, const is_over& over)
{
  std::optional<taken> out;
  (void)wait_until(seconds, getting_, over, [&](bool) { return size() > 0 && (out = try_get()); });
  return out;
}

bool ring::poll(double seconds, const is_over& over)
{
  return wait_until(seconds, getting_, over, [&](bool last) { return last || size() > 0; });
}

void ring::tell() noexcept { words_->changed.tell(); }

bool ring::task_done()
{
  std::uint64_t left = words_->unfinished.load(std::memory_order_relaxed);
  do {
    if (left == 0) {
      return false;
    }
  } while (!words_->unfinished.compare_exchange_weak(left, left - 1, std::memory_order_acq_rel));
  if (left == 1) {
    tell();
  }
  return true;
}

void ring::join()
{
  (void)wait_until(-1, "join()", {}, [&](bool) { return words_->unfinished.load(std::memory_order_acquire) == 0; });
}

std::size_t ring::size() const noexcept { return words_->size.load(std::memory_order_acquire); }

std::uint64_t ring::most_values() const noexcept { return words_->most_values; }

bool ring::full() const noexcept { return is_full(*words_, 0); }

}  // namespace nodeshare
