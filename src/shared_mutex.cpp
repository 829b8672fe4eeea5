// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/shared_mutex.hpp"

#include <cstddef>
#include <utility>

#include "linux.hpp"
#include "nodeshare/error.hpp"
#include "owner.hpp"
#include "topology_state.hpp"

namespace nodeshare {
namespace {

using place = std::atomic<std::uint64_t>;  // of a reader's name, or 0

constexpr std::size_t places_per_line = 64 / sizeof(place);
constexpr std::size_t spare_lines = 8;  // for threads and forked children

/// The places for a reader's name, in the order in which it tries them: its rank's line first.
class order_of_places {
 public:
  order_of_places(std::span<place> all, std::uint64_t me) noexcept
      : all_(all), first_(rank_in_name(me) * places_per_line + me % places_per_line)
  {}

  place& operator[](std::size_t i) const noexcept { return all_[(first_ + i) % all_.size()]; }

  /// The first of so many that holds a word; null if none does.
  place* find(std::uint64_t word, std::size_t among) const noexcept
  {
    for (std::size_t i = 0; i < among; ++i) {
      if ((*this)[i].load(std::memory_order_relaxed) == word) {
        return &(*this)[i];
      }
    }
    return nullptr;
  }
  place* find(std::uint64_t word) const noexcept { return find(word, all_.size()); }

  /// Null if all are taken.
  place* take(std::uint64_t me) const noexcept
  {
    while (place* const free = find(0)) {
      std::uint64_t nobody = 0;
      if (free->compare_exchange_strong(nobody, me, std::memory_order_seq_cst)) {
        return free;
      }
    }
    return nullptr;
  }

 private:
  std::span<place> all_;
  std::size_t first_;
};

}  // namespace

/// A reader writes its name down, then looks for a writer's; a writer its own, then looks for readers': of two that
/// come at the same time, one sees the other. It is the reader who gives way.
struct shared_mutex::words {
  owner_line writer;
  alignas(64) std::atomic<std::uint32_t> sleepers;  ///< on places
  alignas(64) place first;                          ///< of as many as there is room for
};

shared_mutex::words& shared_mutex::shared() const noexcept { return *reinterpret_cast<words*>(memory_->data()); }

std::span<place> shared_mutex::places() const noexcept
{
  return {&shared().first, (memory_->size_bytes() - offsetof(words, first)) / sizeof(place)};
}

shared_mutex::shared_mutex(const topology& where, std::source_location its_place)
    : shared_mutex(call("shared_mutex", "", its_place), node::of(where))
{}

shared_mutex::shared_mutex(const call& what, const std::shared_ptr<node>& home)
    : shared_mutex(
          make_words(what, home,
                     offsetof(words, first) + 64 * (spare_lines + static_cast<std::size_t>(home->where().node_size()))))
{}

shared_mutex::shared_mutex(std::shared_ptr<segment> memory) : memory_(std::move(memory)) {}

bool shared_mutex::holds(std::uint64_t me) const noexcept
{
  return shared().writer.owner.load(std::memory_order_relaxed) == me ||
         order_of_places(places(), me).find(me, places_per_line) != nullptr;
}

/// What a thread hears that holds it already.
bool shared_mutex::refuse(double seconds) const
{
  if (seconds != 0) {
    throw error("this thread reads or writes under " + memory_->description() + " already, and would wait for itself");
  }
  return false;
}

bool shared_mutex::acquire_shared(double seconds)
{
  const std::uint64_t me = name_in(*memory_);
  owner_line& writer = shared().writer;
  const order_of_places mine(places(), me);
  if (holds(me)) {
    return refuse(seconds);
  }
  owner_wait wait(*memory_, writer, seconds);
  while (true) {
    if (place* const taken = mine.take(me)) {
      if (writer.owner.load(std::memory_order_seq_cst) == 0) {
        return true;
      }
      leave(*taken);
    } else if (!wait.until_free(mine[0], shared().sleepers, 0)) {
      return false;
    }
    if (!wait.until_free()) {
      return false;
    }
  }
}

void shared_mutex::unlock_shared()
{
  const std::uint64_t me = name_in(*memory_);
  place* const mine = order_of_places(places(), me).find(me);
  if (mine == nullptr) {
    throw error("this thread does not read under " + memory_->description());
  }
  leave(*mine);
}

void shared_mutex::leave(place& mine) const noexcept
{
  mine.exchange(0, std::memory_order_seq_cst);
  if (shared().sleepers.load(std::memory_order_relaxed) != 0) {
    linux_api::futex_wake(mine);
  }
}

bool shared_mutex::acquire(double seconds)
{
  std::uint64_t me = name_in(*memory_);
  owner_line& writer = shared().writer;
  if (holds(me)) {
    return refuse(seconds);
  }
  owner_wait wait(*memory_, writer, seconds);
  if (!wait.take(me)) {
    return false;
  }
  try {
    for (place& one : places()) {
      if (!wait.until_free(one, shared().sleepers, me)) {
        (void)give_back(writer, me, everybody);
        return false;
      }
    }
  } catch (...) {
    (void)give_back(writer, me, everybody);  // not where it was marked
    throw;
  }
  return true;
}

void shared_mutex::unlock()
{
  std::uint64_t seen = name_in(*memory_);
  if (!give_back(shared().writer, seen, everybody)) {
    require_not_left(*memory_, seen);
    throw not_held(*memory_, seen);
  }
}

std::string shared_mutex::writer() const
{
  return text_of_owner(shared().writer.owner.load(std::memory_order_relaxed));
}

std::string shared_mutex::readers() const
{
  std::string out;
  for (const place& one : places()) {
    if (const std::uint64_t reader = one.load(std::memory_order_relaxed); reader != 0) {
      out += (out.empty() ? "" : ", ") + text_of_owner(reader);
    }
  }
  return out;
}

}  // namespace nodeshare
