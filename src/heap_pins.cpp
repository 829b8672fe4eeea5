// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Who looks at a heap's blocks: a table of views, with the process of each.
#include <algorithm>
#include <atomic>
#include <map>
#include <utility>

#include "heap_words.hpp"
#include "limits.hpp"
#include "linux.hpp"

namespace nodeshare {
namespace {

constexpr std::size_t pins_per_growth = 2048;

}  // namespace

void heap_words::free_if_unused(std::uint64_t offset) noexcept
{
  const block_header& one = header(offset);
  if (one.number == 0 && one.pins == 0) {
    deallocate(offset);
    --blocks;
  }
}

void heap_words::unpin(std::uint32_t place) noexcept
{
  heap_pin& one = entry(place);
  --header(one.offset).pins;
  free_if_unused(one.offset);
  one.process = 0;
  one.next = std::exchange(free_pins, place);
  --pins;
}

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
    const std::size_t first = linux_api::round_up(pins_present * sizeof(heap_pin), page);  // up to here they are there
    const std::size_t last = linux_api::round_up(most * sizeof(heap_pin), page);
    if (const failure trouble = populate({at(pins_at + first), last - first}, look_now)) {
      raise(trouble.kind, "a view needs memory to be noted in: " + trouble.text);
    }
    pins_present = most;
  }
  return pins_begun < pins_present ? ++pins_begun : 0;
}

}  // namespace nodeshare
