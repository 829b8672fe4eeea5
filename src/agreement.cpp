// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Agreements: what ranks make of a meeting, between nodes too; and how they explain a "no".
#include <algorithm>
#include <cstdio>
#include <exception>
#include <vector>

#include "linux.hpp"
#include "meeting.hpp"
#include "nodeshare/error.hpp"
#include "wait.hpp"

namespace nodeshare {
namespace {

constexpr std::uint64_t failed_digest = 0xfa11edfa11ed0001u;

/// Keeps a second thread out; not a mutex, whose calls into the C library would be a fifth of a meeting.
class alone {
 public:
  explicit alone(std::atomic_flag& busy) noexcept : mine_(busy.test_and_set(std::memory_order_acquire) ? nullptr : &busy) {}
  ~alone()
  {
    if (mine_ != nullptr) {
      mine_->clear(std::memory_order_release);
    }
  }
  alone(const alone&) = delete;
  alone& operator=(const alone&) = delete;
  explicit operator bool() const noexcept { return mine_ != nullptr; }

 private:
  std::atomic_flag* mine_;
};

verdict make_verdict(failure_kind kind, const std::string& text)
{
  verdict out{};
  out.kind = kind;
  copy_text(out.text, text);
  return out;
}

/// Which failure is told: a lack of memory, which all ranks then raise, so that they may ask once more together; else that
/// of the lowest rank.
bool precedes(failure_kind kind, int rank, const node_report& other)
{
  const bool memory = kind == failure_kind::out_of_shared_memory;
  const bool other_memory = other.kind == failure_kind::out_of_shared_memory;
  return memory != other_memory ? memory : rank < other.first_failed;
}

/// What the reports of all nodes add up to; `none` if every rank failed by itself.
verdict decide(const std::vector<node_report>& reports)
{
  int failed = 0;
  int present = 0;
  const node_report* first_failed = nullptr;
  std::string calls;
  for (const node_report& one : reports) {
    failed += one.failed;
    present += one.present;
    if (one.failed > 0 && (first_failed == nullptr || precedes(one.kind, one.first_failed, *first_failed))) {
      first_failed = &one;
    }
    calls += (calls.empty() ? "" : "; ") + std::string(one.calls);
  }
  for (const node_report& one : reports) {
    if (one.ended_text[0] != '\0') {
      return make_verdict(failure_kind::peer, std::string(one.ended_text) + ", while others were in a collective call: " + calls);
    }
  }
  if (first_failed != nullptr) {
    const std::string text = first_failed->failed_text;
    if (first_failed->kind == failure_kind::out_of_shared_memory) {
      return make_verdict(failure_kind::out_of_shared_memory, text);
    }
    if (failed == present) {
      return make_verdict(failure_kind::none, "");
    }
    return make_verdict(failure_kind::peer,
                        text + (failed > 1 ? " (and " + count_of(static_cast<std::size_t>(failed - 1), "other rank") + ")" : ""));
  }
  return make_verdict(failure_kind::mismatch,
                      "the ranks called different things: " + calls +
                          ". Every rank must make the same collective calls in the same order with the same arguments");
}

}  // namespace

void meeting_place::agree(const call& what, const failure& its_failure, scope reach, bool more, const decision& decide)
{
  const alone here(busy_);
  if (!here) {
    throw error("another thread of this rank is in a collective call on the same communicator: give each thread a "
                "communicator of its own (MPI_Comm_dup)");
  }
  require_meetings();
  if (reach == scope::communicator) {
    require_communicator();
    ++agreements_;
  }
  const bool asks = across(reach) || decide;
  const bool troubled = (its_failure && !decide) || interrupt_due_ || (across(reach) && lanes_broken_);
  gathering seen = gather(what, troubled ? failed_digest : compared(what));
  if (seen.whole && !troubled && !interrupt_due_ && !asks) {
    return;  // nearly always
  }
  failure mine;
  if (its_failure && !decide) {
    mine = its_failure;
  } else if (across(reach) && lanes_broken_) {
    mine = {failure_kind::other, ended_elsewhere_};
  } else if (troubled) {
    mine = {failure_kind::other, "interrupted by a signal"};
  }
  require_all_stayed(what, seen, reach);
  const bool good_here = seen.same && seen.missing < 0 && !mine;
  if (!good_here) {
    reach = tell(what, mine, reach, seen);
  }
  bool good = good_here;
  if ((across(reach) || (decide && good_here)) && seen.missing != 0) {
    failure undecided;
    const verdict heard = hear_from_leader(what, [&] {
      undecided = decide && good_here ? decide() : failure{};
      const bool good_node = good_here && !undecided;
      const bool all = across(reach) ? leaders_agree(what, good_node) : good_node;
      verdict out = make_verdict(all ? failure_kind::none : failure_kind::mismatch, "");
      out.refused_here = static_cast<bool>(undecided);
      return out;
    });
    good = heard.kind == failure_kind::none;
    if (heard.refused_here && (its_failure || !undecided.text.empty())) {
      mine = its_failure ? its_failure : undecided;
    }
  }
  if (!good) {
    if (good_here) {
      reach = tell(what, mine, reach, seen);
    }
    explain(what, mine, seen, reach);
  }
  if (interrupt_due_ && !more) {
    interrupt_due_ = false;
    throw interrupted("interrupted in " + text_of(what));
  }
}

/// The leader asks the other nodes, then all of the node hear what it heard. Should the leader's exchange fail (another
/// node's leader ended, a signal), all throw, and from then on nothing goes between the nodes.
verdict meeting_place::hear_from_leader(const call& what, const std::function<verdict()>& ask)
{
  std::exception_ptr trouble;
  ++heard_;
  if (leads()) {
    try {
      judged() = ask();
      judged().exchanged = 1;
    } catch (const error& why) {
      trouble = std::current_exception();
      judged() = make_verdict(failure_kind::peer, why.what());
      judged().exchanged = 0;
    }
  }
  const gathering after = gather(what, 0);
  require_all_stayed(what, after, scope::node);
  if (after.missing == 0) {
    throw peer_error(name_of(0) + " has ended (" + page_->record(0).ended_how + "), while others were in " +
                     text_of(what));
  }
  const verdict heard = judged();
  if (heard.exchanged == 0) {
    lanes_broken_ = true;
    ended_elsewhere_ = heard.text;
    if (trouble) {
      std::rethrow_exception(trouble);
    }
    throw peer_error(heard.text);
  }
  return heard;
}

/// Throws if a rank left the meeting early. The leader first tells the other nodes, which would wait for it.
void meeting_place::require_all_stayed(const call& what, const gathering& seen, scope reach)
{
  if (seen.left_early < 0) {
    return;
  }
  const bool left_myself = seen.left_early == where_.node_rank;
  const std::string text = name_of(seen.left_early) + " " + page_->record(seen.left_early).text + " in a collective call";
  if (across(reach) && leads()) {
    interrupt_due_ = left_myself;  // then it does not wait long for the other nodes
    node_report ours;
    ours.present = page_->ranks;
    ours.failed = 1;
    ours.first_failed = rank_of(seen.left_early);
    ours.kind = failure_kind::other;
    copy_text(ours.failed_text, text);
    try {
      leaders_agree(what, false);
      leaders_explain(what, ours);
    } catch (const error&) {
      lanes_broken_ = true;
      ended_elsewhere_ = text;
    }
    interrupt_due_ = false;
  }
  if (seen.timed_out) {
    throw error("the time of " + text_of(what) + " was over before all had come; missing: " + missing_in(seen.number));
  }
  if (left_myself) {
    throw interrupted("interrupted in " + text_of(what));
  }
  throw peer_error(text + ", while this rank was in " + text_of(what));
}

void meeting_place::took(std::string_view arena, std::uint64_t count, std::string_view latest, std::uint64_t digest)
{
  taken_.digest = (taken_.digest ^ digest) * 0x100000001b3u;
  taken_.arena = arena;
  taken_.count = count;
  taken_.latest = latest;
}

std::string meeting_place::taken_text() const
{
  if (taken_.arena.empty()) {
    return "";
  }
  char digest[24];
  std::snprintf(digest, sizeof digest, "%016llx", static_cast<unsigned long long>(taken_.digest));
  return ", having taken " + count_of(taken_.count, "array") + " from " + taken_.arena +
         (taken_.latest.empty() ? "" : " (the latest " + taken_.latest + "; digest of all " + digest + ")");
}

/// Each rank of the node writes down what it called and what is wrong with it. Returns how far the call reaches: where
/// one rank called over the communicator, the node has to answer the others, which wait for it.
scope meeting_place::tell(const call& what, const failure& mine, scope reach, gathering& seen)
{
  rank_record& record = page_->record(where_.node_rank);
  record.kind = mine.kind;
  record.over_communicator = reach == scope::communicator;
  copy_text(record.text, mine.text);
  copy_text(record.called, text_of(what) + taken_text());
  const gathering told = gather(what, 0);
  require_all_stayed(what, told, scope::node);
  seen.number = told.number;
  seen.missing = seen.missing >= 0 ? seen.missing : told.missing;
  bool any = false;
  for (int rank = 0; rank < page_->ranks; ++rank) {
    any = any || (!is_gone(rank, told.number) && page_->record(rank).over_communicator);
  }
  return any ? scope::communicator : scope::node;
}

/// All have told; now all find out what is wrong, and all throw.
void meeting_place::explain(const call& what, const failure& mine, const gathering& seen, scope reach)
{
  const node_report ours = report(seen);
  const verdict outcome = across(reach) && seen.missing != 0
                              ? hear_from_leader(what, [&] { return leaders_explain(what, ours); })
                              : decide({ours});
  if (outcome.kind == failure_kind::mismatch && (reach == scope::communicator || where_.node_count == 1)) {
    taken_.digest = 0;  // told to all once, and the job goes on
  }
  if (mine && mine.kind != failure_kind::out_of_shared_memory && outcome.kind != failure_kind::out_of_shared_memory) {
    if (interrupt_due_) {
      interrupt_due_ = false;
      throw interrupted("interrupted in " + text_of(what));
    }
    raise(mine.kind, mine.text);
  }
  raise(outcome.kind, outcome.text);
}

bool meeting_place::is_gone(int rank, std::uint32_t number) const
{
  return page_->line(rank).ended.load() != 0 && !page_->arrivals(rank).came_to(number);
}

node_report meeting_place::report(const gathering& seen) const
{
  node_report out;
  std::vector<bool> listed(static_cast<std::size_t>(page_->ranks), false);
  std::string calls;
  for (int rank = 0; rank < page_->ranks; ++rank) {
    const rank_record& record = page_->record(rank);
    if (is_gone(rank, seen.number)) {
      if (out.ended_text[0] == '\0') {
        copy_text(out.ended_text, name_of(rank) + " has ended (" + record.ended_how + ")");
      }
      continue;
    }
    ++out.present;
    if (record.kind != failure_kind::none) {
      ++out.failed;
      if (out.failed == 1 || precedes(record.kind, rank_of(rank), out)) {
        out.first_failed = rank_of(rank);
        out.kind = record.kind;
        copy_text(out.failed_text,
               name_of(rank) + " failed in " + record.called + ": " + record.text);
      }
    }
    if (listed[static_cast<std::size_t>(rank)]) {
      continue;
    }
    std::string who;
    for (int other = rank; other < page_->ranks; ++other) {
      if (!is_gone(other, seen.number) && std::string_view(page_->record(other).called) == record.called) {
        listed[static_cast<std::size_t>(other)] = true;
        who += (who.empty() ? "" : ", ") + name_of(other);
      }
    }
    calls += (calls.empty() ? "" : "; ") + who + " called " + record.called;
  }
  copy_text(out.calls, calls);
  return out;
}

/// By the leaders: whether all nodes are good and called the same.
bool meeting_place::leaders_agree(const call& what, bool good)
{
  require_lanes();
  const std::uint64_t mine[3] = {good ? 1u : 0u, compared(what), ~compared(what)};
  // on the heap: should the wait be given up, MPI may still write here
  auto words = std::make_unique<std::uint64_t[]>(6);
  std::copy(mine, mine + 3, words.get());
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPI_Iallreduce(words.get(), words.get() + 3, 3, MPI_UINT64_T, MPI_MIN, where_.lane, &request),
            "MPI_Iallreduce");
  try {
    finish(request, what, "MPI_Iallreduce");
    if (someone_gave_up()) {  // after it had sent its words
      throw peer_error(ended_elsewhere_ + ", while this rank was in " + text_of(what));
    }
  } catch (...) {
    leave_to_mpi(std::move(words));
    throw;
  }
  return words[3] == 1 && words[4] == ~words[5];
}

verdict meeting_place::leaders_explain(const call& what, const node_report& ours)
{
  require_lanes();
  const auto nodes = static_cast<std::size_t>(where_.node_count);
  auto reports = std::make_unique<std::vector<node_report>>(nodes + 1);
  reports->back() = ours;
  constexpr int bytes = static_cast<int>(sizeof(node_report));
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPI_Iallgather(&reports->back(), bytes, MPI_BYTE, reports->data(), bytes, MPI_BYTE, where_.lane, &request),
            "MPI_Iallgather");
  try {
    finish(request, what, "MPI_Iallgather");
  } catch (...) {
    leave_to_mpi(std::move(reports));
    throw;
  }
  reports->pop_back();
  return decide(*reports);
}

}  // namespace nodeshare
