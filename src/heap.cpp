// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/heap.hpp"

#include <algorithm>
#include <atomic>
#include <limits>
#include <mutex>
#include <string>
#include <utility>

#include "heap_words.hpp"
#include "limits.hpp"
#include "linux.hpp"
#include "meeting.hpp"
#include "nodeshare/error.hpp"
#include "wait.hpp"

namespace nodeshare {

heap_view::heap_view(heap_view&& from) noexcept
    : memory_(std::move(from.memory_)), bytes_(std::exchange(from.bytes_, {})), process_(from.process_), pin_(from.pin_)
{}

heap_view& heap_view::operator=(heap_view&& from) noexcept
{
  if (this != &from) {
    let_go();
    memory_ = std::move(from.memory_);
    bytes_ = std::exchange(from.bytes_, {});
    process_ = from.process_;
    pin_ = from.pin_;
  }
  return *this;
}

void heap_view::let_go() noexcept
{
  if (memory_ == nullptr) {
    return;
  }
  if (process_ == linux_api::this_process()) {
    auto& words = *reinterpret_cast<heap_words*>(memory_->data());
    std::uint32_t& next = words.entry(pin_).next;
    next = words.dropped.load(std::memory_order_relaxed);
    while (!words.dropped.compare_exchange_weak(next, pin_, std::memory_order_release, std::memory_order_relaxed)) {
    }
  }
  memory_ = nullptr;
  bytes_ = {};
}

namespace {

std::shared_ptr<segment> make_heap(const call& what, const std::shared_ptr<node>& home, std::size_t capacity)
{
  require_one_node(what, home);
  const heap_layout where(capacity);
  auto memory = home->create(what, {.bytes = where.blocks + where.capacity, .reserve = false}, true);
  const failure trouble = home->where().node_rank == 0 ? heap_words::begin(*memory, where) : failure{};
  home->meetings().agree(what, trouble, scope::communicator, false);
  return memory;
}

heap_words* words_in(const segment& memory)
{
  auto* words = reinterpret_cast<heap_words*>(memory.data());
  if (words->mark != mark_of_a_heap) {
    throw invalid_argument("there is no heap in " + memory.description());
  }
  return words;
}

invalid_argument no_block(const segment& memory, heap::block one)
{
  return invalid_argument(one ? "block " + std::to_string(one.number) + " of " + memory.description() +
                                    " was released, or is of another heap"
                              : "this names no block: pass what heap.allocate gave");
}

}  // namespace

heap::heap(const topology& where, std::size_t capacity, std::source_location place)
    : heap(call("heap", std::to_string(capacity) + " bytes", place), node::of(where), capacity)
{}

heap::heap(const call& what, const std::shared_ptr<node>& home, std::size_t capacity)
    : heap(make_heap(what, home, capacity))
{}

heap::heap(std::shared_ptr<segment> memory) : memory_(std::move(memory)), words_(words_in(*memory_)), lock_(memory_) {}

heap::block heap::allocate(std::size_t bytes)
{
  const std::size_t with_header =
      bytes + std::min(sizeof(block_header), std::numeric_limits<std::size_t>::max() - bytes);
  const std::scoped_lock hold(lock_);
  const auto in_full = [&](const std::string& why) {
    return out_of_shared_memory("a block of " + bytes_text(bytes) + " of " + memory_->description() + ": " + why);
  };
  std::byte* found = nullptr;
  try {
    found = words_->allocate(with_header);
  } catch (const out_of_shared_memory& trouble) {
    throw in_full(trouble.what());
  }
  if (found == nullptr) {
    throw in_full(bytes_text(words_->used()) + " of its capacity of " + bytes_text(capacity()) + " are used, and " +
                  bytes_text(words_->largest_free()) +
                  " is the largest block to be had: release blocks, let go of views, or make the capacity larger");
  }
  const block one{static_cast<std::uint64_t>(found - memory_->data()), ++words_->numbers};
  words_->header(one.offset) = {.number = one.number, .bytes = bytes, .pins = 0};
  ++words_->blocks;
  return one;
}

heap_view heap::view(block one)
{
  const std::scoped_lock hold(lock_);
  words_->collect();
  block_header* const header = words_->find(one);
  if (header == nullptr) {
    throw no_block(*memory_, one);
  }
  const auto place = static_cast<std::uint32_t>(words_->take_pin());
  if (place == 0) {
    throw out_of_shared_memory(count_of(words_->most_pins, "view") + " of " + memory_->description() +
                               " are alive: let go of some, or make the capacity larger");
  }
  heap_view out;
  out.memory_ = memory_;
  out.bytes_ = words_->bytes_of(one);
  out.process_ = linux_api::this_process();
  out.pin_ = place;
  words_->entry(place) = {.process = out.process_, .offset = one.offset, .next = 0};
  ++header->pins;
  ++words_->pins;
  return out;
}

std::span<std::byte> heap::at(block one) const
{
  if (words_->find(one) == nullptr) {
    throw no_block(*memory_, one);
  }
  return words_->bytes_of(one);
}

void heap::release(block one)
{
  const uninterrupted done_with_it;  // the caller has forgotten the block, or has a result to give
  const std::scoped_lock hold(lock_);
  words_->collect();
  block_header* const header = words_->find(one);
  if (header == nullptr) {
    throw no_block(*memory_, one);
  }
  header->number = 0;
  words_->free_if_unused(one.offset);
}

heap::statistics heap::usage()
{
  const std::scoped_lock hold(lock_);
  words_->collect();
  words_->sweep();
  return {.capacity = capacity(),
          .used = words_->used(),
          .present = words_->present.load(std::memory_order_relaxed),
          .largest_free = words_->largest_free(),
          .blocks = words_->blocks,
          .views = words_->pins};
}

std::span<std::byte> heap::front() const noexcept { return words_->front(); }

std::size_t heap::capacity() const noexcept { return words_->capacity; }

}  // namespace nodeshare
