// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Boost's allocator under a mutex of ours. Boost's own mutexes know nothing of owners that have ended; and what a call
/// does (free what views have left, allocate, grow, allocate again) must be one step for the others.
#include "nodeshare/heap.hpp"

#include <algorithm>
#include <atomic>
#include <boost/interprocess/mem_algo/rbtree_best_fit.hpp>
#include <boost/interprocess/offset_ptr.hpp>
#include <boost/interprocess/sync/null_mutex.hpp>
#include <limits>
#include <map>
#include <mutex>
#include <string>
#include <utility>

#include "limits.hpp"
#include "linux.hpp"
#include "meeting.hpp"
#include "nodeshare/error.hpp"
#include "owner.hpp"

namespace nodeshare {
namespace {

struct locked_by_the_heap {
  using mutex_type = boost::interprocess::null_mutex;
  using recursive_mutex_type = boost::interprocess::null_mutex;
};
using best_fit =
    boost::interprocess::rbtree_best_fit<locked_by_the_heap, boost::interprocess::offset_ptr<void>, heap::alignment>;
constexpr std::size_t allocators_own = best_fit::PayloadPerAllocation;  // bytes, of each block

constexpr std::uint64_t mark_of_a_heap = 0x70616568'65646f6e;
constexpr std::size_t least_growth = std::size_t{1} << 20;
constexpr std::size_t capacity_per_pin = 256;
constexpr std::size_t least_pins = std::size_t{1} << 16;
constexpr std::size_t pins_per_growth = 2048;

/// What lies before a block's bytes, which begin on the next cache line.
struct alignas(heap::alignment) block_header {
  std::uint64_t number;  ///< 0: released
  std::uint64_t bytes;
  std::uint64_t pins;
};

/// A view of some process.
struct pin {
  std::uint64_t process;  ///< its name; 0: free
  std::uint64_t offset;   ///< of the block
  std::uint32_t next;     ///< in a list of pins, counted from 1; 0: none
};

/// Where things lie in a heap's memory: its words, a table of pins, blocks. The table is apart from the blocks, so that
/// what is in a full heap can still be read; it is sparse, so that many pins cost nothing before they are there.
struct layout {
  explicit layout(std::size_t wanted)
      : capacity(linux_api::round_up(std::clamp<std::size_t>(wanted, 1, std::size_t{1} << 62), linux_api::page_size())),
        most_pins(std::clamp(capacity / capacity_per_pin, least_pins,
                             std::size_t{std::numeric_limits<std::uint32_t>::max()})),
        pins(linux_api::page_size()),
        blocks(linux_api::round_up(pins + most_pins * sizeof(pin), linux_api::page_size()))
  {}

  std::size_t capacity;
  std::size_t most_pins;
  std::size_t pins;    ///< offset
  std::size_t blocks;  ///< offset
};

failure make_present(std::byte* first, std::size_t bytes)
{
  failure trouble = populate({first, bytes}, look_now);
  if (trouble) {
    linux_api::punch(first, bytes);
  }
  return trouble;
}

}  // namespace

/// At the beginning of a heap's memory. What is not atomic is changed by the owner of the line alone.
struct heap_words {
  owner_line line;
  std::atomic<std::uint32_t> dropped;  ///< list of pins whose views are gone: the next owner of the line takes them out
  alignas(64) std::uint64_t mark;
  std::uint64_t capacity;
  std::uint64_t most_pins;
  std::uint64_t pins_at;
  std::uint64_t blocks_at;
  std::atomic<std::uint64_t> present;  ///< bytes of the blocks' part that can be touched, all of them the allocator's
  std::uint64_t numbers;               ///< given to blocks
  std::uint64_t blocks;
  std::uint64_t pins;
  std::uint64_t pins_present;  ///< entries that can be touched
  std::uint64_t pins_begun;    ///< entries that were ever used
  std::uint32_t free_pins;     ///< list of those of them that are not now

  /// By one rank, before the others know of it. Zeroed memory becomes an empty heap.
  static failure begin(segment& memory, const layout& where);

  std::byte* allocate(std::size_t bytes);
  failure grow(std::size_t bytes);
  failure extend(std::size_t bytes);
  std::uint64_t take_pin();
  void collect() noexcept;
  void sweep();
  std::size_t largest_free();

  std::byte* at(std::uint64_t offset) noexcept { return reinterpret_cast<std::byte*>(this) + offset; }
  best_fit& allocator() noexcept { return *reinterpret_cast<best_fit*>(at(blocks_at)); }
  block_header& header(std::uint64_t offset) noexcept { return *reinterpret_cast<block_header*>(at(offset)); }
  pin& entry(std::uint32_t place) noexcept { return reinterpret_cast<pin*>(at(pins_at))[place - 1]; }
  std::uint64_t used() noexcept { return allocator().get_size() - allocator().get_free_memory(); }
  std::uint64_t left_to_grow() const noexcept { return capacity - present.load(std::memory_order_relaxed); }
  block_header* find(heap::block one) noexcept;
  std::span<std::byte> bytes_of(heap::block one) noexcept
  {
    return {at(one.offset + sizeof(block_header)), header(one.offset).bytes};
  }

  void free_if_unused(std::uint64_t offset) noexcept;
  void unpin(std::uint32_t place) noexcept;
};

failure heap_words::begin(segment& memory, const layout& where)
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

/// A block that is not released; null if there is none of that name.
block_header* heap_words::find(heap::block one) noexcept
{
  const bool possible = one && one.offset % heap::alignment == 0 && one.offset >= blocks_at &&
                        one.offset - blocks_at < present.load(std::memory_order_acquire);
  return possible && header(one.offset).number == one.number ? &header(one.offset) : nullptr;
}

void heap_words::free_if_unused(std::uint64_t offset) noexcept
{
  const block_header& one = header(offset);
  if (one.number == 0 && one.pins == 0) {
    allocator().deallocate(at(offset));
    --blocks;
  }
}

void heap_words::unpin(std::uint32_t place) noexcept
{
  pin& one = entry(place);
  --header(one.offset).pins;
  free_if_unused(one.offset);
  one.process = 0;
  one.next = std::exchange(free_pins, place);
  --pins;
}

/// Takes out the pins whose views are gone.
void heap_words::collect() noexcept
{
  if (dropped.load(std::memory_order_relaxed) == 0) {
    return;
  }
  for (std::uint32_t place = dropped.exchange(0, std::memory_order_acquire); place != 0;) {
    const std::uint32_t next = entry(place).next;
    unpin(place);
    place = next;
  }
}

/// Takes out the pins of processes that have ended.
void heap_words::sweep()
{
  const auto all = static_cast<std::uint32_t>(pins_begun);
  std::map<std::uint64_t, bool> ended{{0, false}, {linux_api::this_process(), false}};
  for (std::uint32_t place = 1; place <= all; ++place) {
    const std::uint64_t process = entry(place).process;
    if (!ended.contains(process)) {
      ended[process] = linux_api::thread_has_ended(process);
    }
  }
  if (std::none_of(ended.begin(), ended.end(), [](const auto& one) { return one.second; })) {
    return;
  }
  collect();  // what they still dropped: from now on they drop nothing
  for (std::uint32_t place = 1; place <= all; ++place) {
    if (ended.at(entry(place).process)) {
      unpin(place);
    }
  }
}

/// Null if the heap is full.
std::byte* heap_words::allocate(std::size_t bytes)
{
  collect();
  const auto attempt = [&] { return static_cast<std::byte*>(allocator().allocate(bytes)); };
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
  allocator().grow(step);
  present.store(now + step, std::memory_order_release);
  return {};
}

/// A free entry of the table; 0 if it is full.
std::uint64_t heap_words::take_pin()
{
  if (free_pins == 0 && pins_begun == pins_present) {
    sweep();
  }
  if (free_pins != 0) {
    return std::exchange(free_pins, entry(free_pins).next);
  }
  if (pins_begun == pins_present && pins_present < most_pins) {
    const std::size_t page = linux_api::page_size();
    const std::size_t most = std::min<std::size_t>(pins_present + pins_per_growth, most_pins);
    const std::size_t first = pins_present * sizeof(pin) / page * page;  // its page may be there already
    const std::size_t last = linux_api::round_up(most * sizeof(pin), page);
    if (const failure trouble = populate({at(pins_at + first), last - first}, look_now)) {
      raise(trouble.kind, "a view needs memory to be noted in: " + trouble.text);
    }
    pins_present = most;
  }
  return pins_begun < pins_present ? ++pins_begun : 0;
}

std::size_t heap_words::largest_free()
{
  best_fit::size_type bytes = allocator().get_size();
  void* none = nullptr;
  constexpr auto whatever_there_is = boost::interprocess::allocate_new | boost::interprocess::nothrow_allocation;
  void* const largest = allocator().raw_allocation_command(whatever_there_is, 1, bytes, none);
  if (largest == nullptr) {
    bytes = 0;
  } else {
    allocator().deallocate(largest);
  }
  const std::size_t behind = left_to_grow() - std::min(left_to_grow(), allocators_own);
  const std::size_t most = std::max<std::size_t>(bytes, behind);
  return most - std::min(most, sizeof(block_header));
}

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
  const layout where(capacity);
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

std::size_t heap::capacity() const noexcept { return words_->capacity; }

}  // namespace nodeshare
