// SPDX-License-Identifier: BSD-3-Clause
#include "owner.hpp"

#include <chrono>
#include <cstdio>

#include "linux.hpp"
#include "meeting.hpp"

namespace nodeshare {
namespace {

constexpr std::uint64_t most_ranks = std::uint64_t{1} << (linux_api::thread_start_at - linux_api::thread_id_bits);
constexpr std::uint64_t no_rank = most_ranks - 1;  // of a process that attached the memory from outside

std::uint64_t thread_of(std::uint64_t owner) { return owner % (std::uint64_t{1} << linux_api::thread_id_bits); }

std::uint64_t rank_bits(const segment& memory) noexcept
{
  const auto rank = memory.home() ? static_cast<std::uint64_t>(memory.home()->where().rank) : no_rank;
  return rank << linux_api::thread_id_bits;
}

/// Whether the owner's rank, another one, has left word that it takes part in nothing any more.
bool said_that_it_ends(const segment& memory, std::uint64_t owner)
{
  const std::uint64_t rank = rank_in_name(owner);
  const bool of_child = ((owner | linux_api::this_thread()) & linux_api::thread_of_forked_child) != 0;
  if (!memory.home() || rank == no_rank || of_child || rank == rank_in_name(name_in(memory))) {
    return false;
  }
  return memory.home()->meetings().page().line(static_cast<int>(rank)).ended.load(std::memory_order_acquire) != 0;
}

std::string how_it_ended(const segment& memory, std::uint64_t owner)
{
  if (!said_that_it_ends(memory, owner)) {
    return "";
  }
  const auto rank = static_cast<int>(rank_in_name(owner));
  return " (" + std::string(memory.home()->meetings().page().record(rank).ended_how) + ")";
}

}  // namespace

void require_one_node(const call& what, const std::shared_ptr<node>& home)
{
  if (const int nodes = home->where().node_count; nodes > 1) {
    home->meetings().agree(
        what,
        {failure_kind::invalid_argument, "a " + std::string(what.name) +
                                             " is of one node, and the ranks of this communicator are on " +
                                             std::to_string(nodes) + ": pass that of this node, topology().node_comm"},
        scope::communicator, false);
  }
}

std::shared_ptr<segment> make_words(const call& what, const std::shared_ptr<node>& home, std::size_t bytes)
{
  require_one_node(what, home);
  return home->create(what, {.bytes = bytes});
}

MPI_Comm progress_of(const segment& memory) noexcept
{
  if (!memory.home()) {
    return MPI_COMM_NULL;
  }
  const MPI_Comm ours = memory.home()->where().all;
  return ours == MPI_COMM_NULL ? MPI_COMM_WORLD : ours;
}

double patience_of(const segment& memory) noexcept
{
  return memory.home() ? memory.home()->where().chosen.patience : settings{}.patience;
}

bool may_spin_in(const segment& memory) noexcept { return memory.home() && memory.home()->meetings().may_spin(); }

bool is_my_turn(std::atomic<std::int64_t>& last, std::chrono::duration<double> interval)
{
  using namespace std::chrono_literals;
  const auto now = std::chrono::steady_clock::now().time_since_epoch() / 1ms;
  std::int64_t before = last.load(std::memory_order_relaxed);
  return std::chrono::milliseconds(now - before) >= interval &&
         last.compare_exchange_strong(before, now, std::memory_order_relaxed);
}

std::uint64_t name_in(const segment& memory) noexcept { return linux_api::this_thread() | rank_bits(memory); }

std::uint64_t process_name_in(const segment& memory) noexcept { return linux_api::this_process() | rank_bits(memory); }

std::uint64_t rank_in_name(std::uint64_t name) noexcept { return (name >> linux_api::thread_id_bits) % most_ranks; }

std::string text_of_owner(std::uint64_t owner)
{
  if (owner == 0) {
    return "";
  }
  const std::uint64_t rank = rank_in_name(owner);
  std::string process = "process " + std::to_string(thread_of(owner));
  if (rank == no_rank) {
    return process;
  }
  const std::string of_rank = "rank " + std::to_string(rank) + " on " + linux_api::host_name();
  return (owner & linux_api::thread_of_forked_child) != 0 ? process + ", forked from " + of_rank : of_rank;
}

bool has_ended(const segment& memory, std::uint64_t owner)
{
  return said_that_it_ends(memory, owner) || linux_api::thread_has_ended(owner);
}

void leave_behind(const segment& memory, owner_line& line, std::uint64_t found, std::uint64_t owner)
{
  if (line.owner.compare_exchange_strong(found, owner | left_by_owner, std::memory_order_acq_rel)) {
    linux_api::futex_wake(line.owner);
    require_not_left(memory, owner | left_by_owner);
  }
}

void require_not_left(const segment& memory, std::uint64_t owner)
{
  if ((owner & left_by_owner) != 0) {
    throw peer_error(text_of_owner(owner) + " has ended" + how_it_ended(memory, owner) + " while it held " +
                     memory.description() + ": what this guards may be half changed, so nobody gets it any more");
  }
}

error not_held(const segment& memory, std::uint64_t owner)
{
  return error("this thread does not hold " + memory.description() + ": " +
               (owner == 0 ? "nobody does" : text_of_owner(owner) + " does"));
}

bool give_back(owner_line& line, std::uint64_t& me, int most) noexcept
{
  if (!line.owner.compare_exchange_strong(me, 0, std::memory_order_seq_cst, std::memory_order_relaxed)) {
    return false;
  }
  if (line.sleepers.load(std::memory_order_relaxed) != 0) {  // one that is missed sleeps a millisecond at most
    linux_api::futex_wake(line.owner, most);
  }
  return true;
}

owner_wait::owner_wait(const segment& memory, owner_line& line, double seconds) noexcept
    : memory_(memory),
      line_(line),
      seconds_(seconds),
      next_report_(patience_of(memory)),
      pace_(may_spin_in(memory), progress_of(memory))
{}

bool owner_wait::until_free(std::atomic<std::uint64_t>& word, std::atomic<std::uint32_t>& sleepers,
                            std::uint64_t on_line)
{
  while (true) {
    const std::uint64_t seen = word.load(std::memory_order_seq_cst);
    if (seen == 0) {
      return true;
    }
    if (over_) {
      return false;
    }
    require_not_left(memory_, seen);
    const bool ended = pause(word, sleepers, seen);
    if (ended && word.load(std::memory_order_seq_cst) == seen) {
      leave_behind(memory_, line_, &word == &line_.owner ? seen : on_line, seen);
    }
  }
}

bool owner_wait::take(std::uint64_t me)
{
  while (until_free()) {
    std::uint64_t nobody = 0;
    if (line_.owner.compare_exchange_strong(nobody, me, std::memory_order_seq_cst)) {
      return true;
    }
  }
  return false;
}

/// Waits a little. Whether the owner was found to have ended.
bool owner_wait::pause(std::atomic<std::uint64_t>& word, std::atomic<std::uint32_t>& sleepers, std::uint64_t seen)
{
  if (seconds_ == 0) {
    over_ = true;
    return is_my_turn(line_.looked_at, look_every) && has_ended(memory_, seen);
  }
  const bool look = pace_.pause(&word, &sleepers, seen);
  over_ = seconds_ > 0 && pace_.waited() >= seconds_;
  if (!look) {
    return false;
  }
  if (!uninterrupted::here() && hooks.interrupted != nullptr && hooks.interrupted()) {
    throw interrupted("interrupted while waiting for " + memory_.description());
  }
  if (const double waited = pace_.waited(); waited >= next_report_) {
    next_report_ *= 2;
    report(waited, seen);
  }
  return has_ended(memory_, seen);
}

/// One of those who wait says so.
void owner_wait::report(double waited, std::uint64_t owner)
{
  if (is_my_turn(line_.reported_at, std::chrono::duration<double>(patience_of(memory_)))) {
    std::fprintf(stderr, "nodeshare: a wait is long: %s for %d s for %s, which %s holds\n",
                 text_of_owner(name_in(memory_)).c_str(), static_cast<int>(waited), memory_.description().c_str(),
                 text_of_owner(owner).c_str());
  }
}

}  // namespace nodeshare
