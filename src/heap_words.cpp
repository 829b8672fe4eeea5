// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Boost's allocator under a mutex of ours. Boost's own mutexes know nothing of owners that have ended; and what a call
/// does (free what views have left, allocate, grow, allocate again) must be one step for the others.
#include "heap_words.hpp"

#include <algorithm>
#include <boost/interprocess/mem_algo/rbtree_best_fit.hpp>
#include <boost/interprocess/offset_ptr.hpp>
#include <boost/interprocess/sync/null_mutex.hpp>
#include <limits>

#include "limits.hpp"
#include "linux.hpp"

namespace nodeshare {
namespace {

struct locked_by_the_heap {
  using mutex_type = boost::interprocess::null_mutex;
  using recursive_mutex_type = boost::interprocess::null_mutex;
};
using best_fit =
    boost::interprocess::rbtree_best_fit<locked_by_the_heap, boost::interprocess::offset_ptr<void>, heap::alignment>;
constexpr std::size_t allocators_own = best_fit::PayloadPerAllocation;  // bytes, of each block

constexpr std::size_t least_growth = std::size_t{1} << 20;
constexpr std::size_t capacity_per_pin = 256;
constexpr std::size_t least_pins = std::size_t{1} << 16;

best_fit& allocator_of(heap_words& words) noexcept { return *reinterpret_cast<best_fit*>(words.at(words.blocks_at)); }

failure make_present(std::byte* first, std::size_t bytes)
{
  failure trouble = populate({first, bytes}, look_now);
  if (trouble) {
    linux_api::punch(first, bytes);
  }
  return trouble;
}

}  // namespace

heap_layout::heap_layout(std::size_t wanted)
    : capacity(linux_api::round_up(std::clamp<std::size_t>(wanted, 1, std::size_t{1} << 62), linux_api::page_size())),
      most_pins(
          std::clamp(capacity / capacity_per_pin, least_pins, std::size_t{std::numeric_limits<std::uint32_t>::max()})),
      pins(linux_api::page_size()),
      blocks(linux_api::round_up(pins + most_pins * sizeof(heap_pin), linux_api::page_size()))
{}

failure heap_words::begin(segment& memory, const heap_layout& where)
{
  if (failure trouble = make_present(memory.data(), linux_api::page_size())) {
    return trouble;
  }
  auto& words = *reinterpret_cast<heap_words*>(memory.data());
  words.capacity = where.capacity;
  words.most_pins = where.most_pins;
  words.pins_at = where.pins;
  words.blocks_at = where.blocks;
  const std::size_t first = std::min(where.capacity, least_growth);
  if (failure trouble = make_present(words.at(where.blocks), first)) {
    return trouble;
  }
  new (words.at(where.blocks)) best_fit(first, 0);
  words.present = first;
  words.mark = mark_of_a_heap;
  return {};
}

block_header* heap_words::find(heap::block one) noexcept
{
  const bool possible = one && one.offset % heap::alignment == 0 && one.offset >= blocks_at &&
                        one.offset - blocks_at < present.load(std::memory_order_acquire);
  return possible && header(one.offset).number == one.number ? &header(one.offset) : nullptr;
}

void heap_words::deallocate(std::uint64_t offset) noexcept { allocator_of(*this).deallocate(at(offset)); }

std::uint64_t heap_words::used() noexcept
{
  return allocator_of(*this).get_size() - allocator_of(*this).get_free_memory();
}

std::byte* heap_words::allocate(std::size_t bytes)
{
  collect();
  const auto attempt = [&] { return static_cast<std::byte*>(allocator_of(*this).allocate(bytes)); };
  std::byte* found = bytes <= capacity ? attempt() : nullptr;
  if (found == nullptr) {
    sweep();
    found = bytes <= capacity ? attempt() : nullptr;
  }
  if (found == nullptr && left_to_grow() > 0 && bytes <= capacity - used()) {
    if (const failure trouble = grow(bytes)) {
      raise(trouble.kind, trouble.text);
    }
    found = attempt();
  }
  return found;
}

/// Makes room for so many bytes behind what is there, and for some more, if there is as much.
failure heap_words::grow(std::size_t bytes)
{
  const std::size_t needed = linux_api::round_up(bytes + allocators_own, linux_api::page_size());
  const std::size_t ample = std::clamp<std::size_t>(present.load(std::memory_order_relaxed), least_growth, step_bytes);
  failure trouble = extend(std::max(needed, ample));
  if (trouble && needed < ample) {
    trouble = extend(needed);
  }
  return trouble;
}

failure heap_words::extend(std::size_t bytes)
{
  const std::uint64_t now = present.load(std::memory_order_relaxed);
  const std::size_t step = std::min<std::size_t>(bytes, left_to_grow());
  if (failure trouble = make_present(at(blocks_at + now), step)) {
    return trouble;
  }
  allocator_of(*this).grow(step);
  present.store(now + step, std::memory_order_release);
  return {};
}

std::size_t heap_words::largest_free()
{
  best_fit::size_type bytes = allocator_of(*this).get_size();
  void* none = nullptr;
  constexpr auto whatever_there_is = boost::interprocess::allocate_new | boost::interprocess::nothrow_allocation;
  void* const largest = allocator_of(*this).raw_allocation_command(whatever_there_is, 1, bytes, none);
  if (largest == nullptr) {
    bytes = 0;
  } else {
    allocator_of(*this).deallocate(largest);
  }
  const std::size_t behind = left_to_grow() - std::min(left_to_grow(), allocators_own);
  const std::size_t most = std::max<std::size_t>(bytes, behind);
  return most - std::min(most, sizeof(block_header));
}

}  // namespace nodeshare
