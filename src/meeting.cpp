// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Meetings: coming, waiting, leaving early, ending.
#include "meeting.hpp"

#include <sched.h>

#include <chrono>
#include <cstdio>

#include "linux.hpp"
#include "nodeshare/error.hpp"
#include "wait.hpp"

namespace nodeshare {
namespace {

constexpr double grace_seconds = 2;  // for the last messages of a rank that ended
std::int64_t now_seconds()
{
  return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

std::string waited_text(std::int64_t seconds, std::string_view call)
{
  return " for " + std::to_string(seconds) + " s in " + std::string(call);
}

void report_wait(const std::string& waiting, const std::string& missing)
{
  std::fprintf(stderr, "nodeshare: a wait is long: %s; missing: %s\n", waiting.c_str(), missing.c_str());
}

}  // namespace

/// What a rank does beside waiting, in one wait.
struct meeting_place::wait_notes {
  bool told = false;  // it has written down what it waits in
  double next_report = 0;
};

meeting_place::meeting_place(topology_state& where, std::shared_ptr<control_page> page, bool spin)
    : where_(where), page_(std::move(page)), spin_(spin), words_(where)
{}

meeting_place::~meeting_place() = default;

int meeting_place::rank_of(int node_rank) const
{
  return where_.ranks_on[static_cast<std::size_t>(where_.node_index)][static_cast<std::size_t>(node_rank)];
}

std::string meeting_place::name_of(int node_rank) const
{
  return "rank " + std::to_string(rank_of(node_rank)) + " on " + where_.host +
         (where_.node_count > 1 ? " (node " + std::to_string(where_.node_index) + ")" : "");
}

gathering meeting_place::gather(const call& what, std::uint64_t digest)
{
  const int ranks = page_->ranks;
  const std::uint32_t number = ++meetings_;
  bool same = true;
  int missing = -1;
  std::atomic<std::uint64_t>& mine = page_->arrivals(where_.node_rank).of[number % 2];
  const std::uint64_t arrival = rank_arrivals::word(number, digest);
  // No full fence, which would take as long as the rest: a sleeper that is missed sleeps a millisecond at most, and a
  // rank that leaves early fences for all (`withdraw`).
  mine.store(arrival, std::memory_order_release);
  std::atomic_signal_fence(std::memory_order_seq_cst);
  if (page_->line(where_.node_rank).sleepers.load(std::memory_order_relaxed) != 0) {
    linux_api::futex_wake(mine);
  }

  waiter pace(spin_, where_.all);
  wait_notes notes;
  int peer = where_.node_rank;
  for (int others = ranks - 1; others > 0; --others) {
    peer = peer + 1 == ranks ? 0 : peer + 1;
    std::atomic<std::uint64_t>& word = page_->arrivals(peer).of[number % 2];
    std::uint64_t its = word.load(std::memory_order_acquire);
    while (!rank_arrivals::is_at(its, number)) {
      rank_line& line = page_->line(peer);
      if (line.ended.load(std::memory_order_acquire) != 0 && !page_->arrivals(peer).came_to(number)) {
        missing = missing < 0 ? peer : std::min(missing, peer);
        break;
      }
      const bool look = pace.pause(&word, &line.sleepers, its);
      const bool late = what.timeout >= 0 && pace.waited() >= what.timeout;
      if (look || late) {
        const bool signalled = !look_around(what, number, peer, pace.waited(), notes);
        if (signalled || late) {
          if (withdraw(number, signalled ? "was interrupted by a signal" : "ran out of time")) {
            return {.number = number, .left_early = where_.node_rank, .timed_out = !signalled};
          }
          interrupt_due_ = interrupt_due_ || signalled;
        }
        if (const int left = who_left(number); left >= 0) {
          return {.number = number, .left_early = left};
        }
      }
      its = word.load(std::memory_order_acquire);
    }
    same = same && (its == arrival || missing == peer);
  }
  if (notes.told) {
    page_->record(where_.node_rank).waits_in.store(0, std::memory_order_relaxed);
  }
  const int left = who_left(number);
  const bool whole = same && missing < 0 && left < 0;
  return {.number = number, .whole = whole, .same = same, .missing = missing, .left_early = left};
}

/// A rank that leaves a meeting early must know whether it was complete, and so must the others. It announces that it
/// leaves, looks who has come, and publishes what it saw: had all come, the meeting counts. Whoever came later than
/// that look finds the announcement, and waits for what it says; the barrier on all processors stands for the fence
/// that those who come do without.
bool meeting_place::withdraw(std::uint32_t number, std::string_view why)
{
  rank_line& mine = page_->line(where_.node_rank);
  const std::uint64_t base = std::uint64_t{number} * 4;
  copy_text(page_->record(where_.node_rank).text, why);
  mine.withdrawn.store(base + withdrawal::undecided, std::memory_order_seq_cst);
  page_->header().withdrawals.fetch_add(1, std::memory_order_seq_cst);
  linux_api::fence_all_processors();
  bool all_came = true;
  for (int rank = 0; rank < page_->ranks; ++rank) {
    all_came = all_came && page_->arrivals(rank).came_to(number);
  }
  mine.withdrawn.store(base + (all_came ? withdrawal::completed : withdrawal::broken), std::memory_order_seq_cst);
  return !all_came;
}

int meeting_place::look_who_left(std::uint32_t number, std::uint32_t withdrawals)
{
  const std::uint64_t base = std::uint64_t{number} * 4;
  bool concerns_later = false;  // a rank that is one meeting ahead left that one
  for (int rank = 0; rank < page_->ranks; ++rank) {
    const rank_line& line = page_->line(rank);
    std::uint64_t state = line.withdrawn.load(std::memory_order_seq_cst);
    while (state == base + withdrawal::undecided) {
      if (has_ended(rank, true)) {  // while it looked
        return rank;
      }
      sched_yield();
      state = line.withdrawn.load(std::memory_order_seq_cst);
    }
    if (state == base + withdrawal::broken) {
      return rank;
    }
    concerns_later = concerns_later || before(number, static_cast<std::uint32_t>(state / 4));
  }
  if (!concerns_later) {
    withdrawals_known_ = withdrawals;
  }
  return -1;
}

/// Every 50 ms of a wait. False: a signal wants this rank out.
bool meeting_place::look_around(const call& what, std::uint32_t number, int missing, double seconds, wait_notes& notes)
{
  rank_record& mine = page_->record(where_.node_rank);
  if (!notes.told) {
    notes.told = true;
    notes.next_report = where_.chosen.patience;
    copy_text(mine.waits_call, text_of(what));
    mine.waits_since = now_seconds();
    mine.waits_in.store(number, std::memory_order_release);
  }
  (void)has_ended(missing, true);
  if (seconds >= notes.next_report) {
    notes.next_report *= 2;
    report_patience(number);
  }
  return interrupt_due_ || hooks.interrupted == nullptr || !hooks.interrupted();
}

/// Whether a rank of this node has left word, or its process is gone: then word is left for it.
bool meeting_place::has_ended(int node_rank, bool look)
{
  rank_line& line = page_->line(node_rank);
  rank_record& peer = page_->record(node_rank);
  if (look && line.ended.load(std::memory_order_acquire) == 0 && where_.processes_visible && peer.start_time != 0 &&
      linux_api::process_has_ended(peer.pid, peer.start_time)) {
    copy_text(peer.ended_how, "its process is gone: killed, or _exit");
    line.ended.store(by_failure, std::memory_order_release);
    page_->header().ended.store(1, std::memory_order_relaxed);
  }
  return line.ended.load(std::memory_order_acquire) != 0;
}

std::string meeting_place::lost_peer(bool look)
{
  int last = -1;
  bool all = true;
  for (int rank = 0; rank < page_->ranks; ++rank) {
    if (rank == where_.node_rank) {
      continue;
    }
    if (!has_ended(rank, look)) {
      all = false;
    } else if (last = rank; page_->line(rank).ended.load(std::memory_order_relaxed) == by_failure) {
      all = true;
      break;
    }
  }
  return all && last >= 0 ? name_of(last) + " has ended (" + page_->record(last).ended_how + ")" : "";
}

std::string meeting_place::missing_in(std::uint32_t number) const
{
  std::string out;
  for (int rank = 0; rank < page_->ranks; ++rank) {
    if (!page_->arrivals(rank).came_to(number)) {
      out += (out.empty() ? "" : ", ") + name_of(rank);
    }
  }
  return out;
}

/// One rank of a node says who waits where since when, and who is missing.
void meeting_place::report_patience(std::uint32_t number) const
{
  std::string waiting;
  std::string missing;
  for (int rank = 0; rank < page_->ranks; ++rank) {
    const rank_record& record = page_->record(rank);
    if (page_->arrivals(rank).came_to(number)) {
      if (rank < where_.node_rank) {
        return;  // that one reports
      }
      waiting += (waiting.empty() ? "" : ", ") + name_of(rank);
      if (record.waits_in.load(std::memory_order_acquire) == number) {
        waiting += waited_text(now_seconds() - record.waits_since, record.waits_call);
      }
    } else if (!record.waits_elsewhere.load(std::memory_order_relaxed)) {  // else it reports by itself
      missing += (missing.empty() ? "" : ", ") + name_of(rank);
    }
  }
  if (!missing.empty()) {
    report_wait(waiting, missing);
  }
}

/// Who is missing on another node its own ranks say, if any wait there.
std::string meeting_place::missing_elsewhere(parties who) const
{
  if (who == parties::all) {
    return "another rank";
  }
  if (where_.node_count > 2) {
    return "a rank of another node";
  }
  const int other = 1 - where_.node_index;
  const auto& ranks = where_.ranks_on[static_cast<std::size_t>(other)];
  return ranks.size() > 1 ? "a rank of node " + std::to_string(other)
                          : "rank " + std::to_string(ranks[0]) + " on node " + std::to_string(other);
}

void meeting_place::finish(MPI_Request& request, const call& what, const char* routine, parties who)
{
  double next_report = where_.chosen.patience;
  bool signalled = false;
  double ended_since = 0;
  std::atomic<bool>& elsewhere = page_->record(where_.node_rank).waits_elsewhere;
  const bool done = wait_for(request, routine, [&](double seconds) {
    elsewhere.store(true, std::memory_order_relaxed);
    if (seconds >= next_report) {
      next_report *= 2;
      report_wait(name_of(where_.node_rank) + waited_text(static_cast<std::int64_t>(seconds), text_of(what)),
                  missing_elsewhere(who));
    }
    signalled = !interrupt_due_ && hooks.interrupted != nullptr && hooks.interrupted();
    if (!someone_ended(who)) {
      ended_since = seconds;
    }
    return !signalled && seconds - ended_since < grace_seconds && !(interrupt_due_ && seconds > grace_seconds);
  });
  elsewhere.store(false, std::memory_order_relaxed);
  if (done) {
    return;
  }
  lanes_broken_ = true;
  where_.pending = true;
  if (!signalled && !ended_elsewhere_.empty()) {
    throw peer_error(ended_elsewhere_ + ", while this rank was in " + text_of(what));
  }
  interrupt_due_ = false;
  ended_elsewhere_ = name_of(where_.node_rank) + " was interrupted while waiting for other nodes in " + text_of(what);
  words_.tell(word::gave_up, ended_elsewhere_);  // or others, who find what it has sent already, take it for the whole
  throw interrupted(ended_elsewhere_);
}

void meeting_place::require_communicator() const
{
  require_meetings();
  if (where_.all == MPI_COMM_NULL) {
    throw invalid_argument("the communicator has been freed: views and sync() still work, nothing else does");
  }
}

void meeting_place::require_lanes() const
{
  require_communicator();
  if (lanes_broken_) {
    throw error("nothing goes between the nodes any more: " + ended_elsewhere_);
  }
}

void meeting_place::end(std::string_view how, bool failed) noexcept
{
  if (linux_api::forked()) {
    return;
  }
  rank_line& mine = page_->line(where_.node_rank);
  if (mine.ended.load(std::memory_order_relaxed) != 0) {
    return;
  }
  copy_text(page_->record(where_.node_rank).ended_how, how);
  mine.ended.store(failed ? by_failure : as_planned, std::memory_order_seq_cst);
  page_->header().ended.store(1, std::memory_order_relaxed);
  for (auto& word : page_->arrivals(where_.node_rank).of) {
    linux_api::futex_wake(word);
  }
  words_.tell(word::ended, name_of(where_.node_rank) + " has ended (" + std::string(how) + ")");
}

/// Whether a rank whose part a transfer needs has ended: it left word on this rank's lane, or on the page.
bool meeting_place::someone_ended(parties who)
{
  for (int rank = 0; who == parties::all && rank < page_->ranks && ended_elsewhere_.empty(); ++rank) {
    if (page_->line(rank).ended.load(std::memory_order_acquire) != 0) {
      ended_elsewhere_ = name_of(rank) + " has ended (" + page_->record(rank).ended_how + ")";
    }
  }
  return !ended_elsewhere_.empty() || words_.hear(word::ended, ended_elsewhere_) || someone_gave_up();
}

bool meeting_place::someone_gave_up() { return words_.hear(word::gave_up, ended_elsewhere_); }

bool meeting_place::hear_last_words() noexcept { return words_.hear_last(); }

}  // namespace nodeshare
