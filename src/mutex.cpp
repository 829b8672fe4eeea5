// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/mutex.hpp"

#include "linux.hpp"
#include "nodeshare/error.hpp"
#include "owner.hpp"

namespace nodeshare {

mutex::mutex(const topology& where, std::source_location place) : mutex(call("mutex", "", place), node::of(where)) {}

mutex::mutex(const call& what, const std::shared_ptr<node>& home) : mutex(make_words(what, home, size_bytes())) {}

mutex::mutex(std::shared_ptr<segment> memory, std::size_t offset)
    : memory_(std::move(memory)), line_(reinterpret_cast<owner_line*>(memory_->data() + offset))
{}

std::size_t mutex::size_bytes() noexcept { return sizeof(owner_line); }

bool mutex::try_lock()
{
  const std::uint64_t me = name_in(*memory_);
  std::uint64_t seen = 0;
  return line_->owner.compare_exchange_strong(seen, me, std::memory_order_acquire, std::memory_order_relaxed) ||
         owner_wait(*memory_, *line_, 0).take(me);
}

bool mutex::acquire(double seconds)
{
  const std::uint64_t me = name_in(*memory_);
  std::uint64_t seen = 0;
  if (line_->owner.compare_exchange_strong(seen, me, std::memory_order_acquire, std::memory_order_relaxed)) {
    return true;
  }
  if (seen == me) {
    throw error("this thread holds " + memory_->description() + " already, and would wait for itself");
  }
  return owner_wait(*memory_, *line_, seconds).take(me);
}

void mutex::unlock()
{
  std::uint64_t seen = name_in(*memory_);
  if (!give_back(*line_, seen, 1)) {
    require_not_left(*memory_, seen);
    throw not_held(*memory_, seen);
  }
}

bool mutex::locked() const noexcept { return line_->owner.load(std::memory_order_relaxed) != 0; }

std::string mutex::owner() const { return text_of_owner(line_->owner.load(std::memory_order_relaxed)); }

}  // namespace nodeshare
