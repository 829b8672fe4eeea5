// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Meetings of a node's ranks through its control page, and agreements of all nodes.
#pragma once

#include <mpi.h>

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "control_page.hpp"
#include "failure.hpp"
#include "lane_words.hpp"
#include "nodeshare/node.hpp"
#include "topology_state.hpp"

namespace nodeshare {

/// How far an agreement reaches.
enum class scope { node, communicator };

/// What a node's leader decides while the others wait for it. A failure without a text: a rank that objected says why.
using decision = std::function<failure()>;

/// Whom a transfer needs.
enum class parties { lane, all };

/// What a rank knows when a meeting is over: the same on all ranks of the node that came.
struct gathering {
  std::uint32_t number = 0;
  bool whole = false;      ///< all came, with the same digest, and stayed: the rest need not be read
  bool same = true;        ///< all that came left the same digest
  int missing = -1;        ///< lowest node rank that has ended instead of coming
  int left_early = -1;     ///< node rank that was interrupted, or out of time, and left, -1: none
  bool timed_out = false;  ///< it was this one, and its time was over
};

/// A node's part of an explanation, sent between the leaders as it is.
struct node_report {
  std::int32_t present = 0;
  std::int32_t failed = 0;
  std::int32_t first_failed = 0;           ///< its rank in the communicator
  failure_kind kind = failure_kind::none;  ///< of the first that failed
  char failed_text[1536] = "";             ///< who, where, what; empty if none
  char ended_text[1024] = "";              ///< who and how; empty if none
  char calls[2048] = "";                   ///< which ranks called what
};

class meeting_place {
 public:
  meeting_place(topology_state& where, std::shared_ptr<control_page> page, bool spin);
  ~meeting_place();
  meeting_place(const meeting_place&) = delete;
  meeting_place& operator=(const meeting_place&) = delete;

  /// Meets and compares. Returns when all came with the same digest and no failure. Otherwise all throw: this rank its
  /// own `mine` if it has one, else what the ranks agreed on. Throws `interrupted` if a signal ended the wait.
  ///
  /// With `decide`, called by the node's leader when all have come, a second meeting tells the node what it left in the
  /// page. `mine` is an objection then, and counts only if `decide` fails.
  void agree(const call& what, const failure& mine, scope reach, bool more, const decision& decide = {});

  /// Waits for a request on one of our communicators, with signals and reports. Throws `mpi_error`, `interrupted`,
  /// `peer_error`; after the last two nothing moves between nodes any more, and the request's buffers must stay.
  void finish(MPI_Request& request, const call& what, const char* routine, parties who = parties::lane);

  /// Throws once the communicator has been freed or MPI finalised.
  void require_communicator() const;
  /// Throws unless the communicators between the nodes are ours and idle.
  void require_lanes() const;

  /// Local, in the same order on every rank: the next meeting compares it. By now `count` arrays were taken from
  /// `arena`.
  void took(std::string_view arena, std::uint64_t count, std::string_view latest, std::uint64_t digest);

  /// Leaves word that this rank takes part in nothing any more. `failed`: not as it was to.
  void end(std::string_view how, bool failed) noexcept;
  /// Who of this node's other ranks has ended, so that nothing more comes from them: one that failed, or the last when
  /// all have. Empty: nobody. `look`: at each process, too; else at what is known.
  [[nodiscard]] std::string lost_peer(bool look);
  /// After `end`: whether all neighbours of this rank's lane have ended too.
  bool hear_last_words() noexcept;

  /// How many agreements over the communicator this rank has come to.
  [[nodiscard]] std::uint64_t agreements() const noexcept { return agreements_; }
  /// How many meetings it has come to: the same on all ranks of the node that are in one call.
  [[nodiscard]] std::uint32_t count() const noexcept { return meetings_; }

  /// Whether each rank of the machine can have a core of its own, so that a wait may spin.
  [[nodiscard]] bool may_spin() const noexcept { return spin_; }

  control_page& page() noexcept { return *page_; }

 private:
  struct wait_notes;

  gathering gather(const call& what, std::uint64_t digest);
  bool look_around(const call& what, std::uint32_t number, int missing, double seconds, wait_notes& notes);
  bool withdraw(std::uint32_t number, std::string_view why);
  /// Asked in each meeting, so the ranks' lines are looked at only if need be.
  int who_left(std::uint32_t number)
  {
    const std::uint32_t withdrawals = page_->header().withdrawals.load(std::memory_order_seq_cst);
    return withdrawals == withdrawals_known_ ? -1 : look_who_left(number, withdrawals);
  }
  int look_who_left(std::uint32_t number, std::uint32_t withdrawals);
  void report_patience(std::uint32_t number) const;
  std::string missing_elsewhere(parties who) const;

  void require_all_stayed(const call& what, const gathering& seen, scope reach);
  std::uint64_t compared(const call& what) const noexcept { return what.digest ^ taken_.digest; }
  scope tell(const call& what, const failure& mine, scope reach, gathering& seen);
  bool is_gone(int rank, std::uint32_t number) const;
  void explain(const call& what, const failure& mine, const gathering& seen, scope reach);
  node_report report(const gathering& seen) const;
  verdict hear_from_leader(const call& what, const std::function<verdict()>& ask);
  bool leaders_agree(const call& what, bool good);
  verdict leaders_explain(const call& what, const node_report& ours);

  bool has_ended(int node_rank, bool look);
  bool someone_gave_up();
  bool someone_ended(parties who);
  int rank_of(int node_rank) const;  ///< in the communicator
  std::string name_of(int node_rank) const;
  std::string missing_in(std::uint32_t number) const;
  std::string taken_text() const;
  verdict& judged() const noexcept { return page_->header().judged[heard_ % 2]; }
  bool leads() const noexcept { return where_.node_rank == 0; }
  bool across(scope reach) const noexcept { return reach == scope::communicator && where_.node_count > 1; }

  topology_state& where_;
  std::shared_ptr<control_page> page_;
  const bool spin_;
  std::uint32_t meetings_ = 0;           // how many this rank has come to
  std::uint64_t agreements_ = 0;         // over the communicator
  std::uint32_t heard_ = 0;              // how often it has heard from its leader about the other nodes
  std::uint32_t withdrawals_known_ = 0;  // up to here no rank that left early concerns this one
  bool interrupt_due_ = false;           // a signal came in a meeting that was complete: the next step fails
  bool lanes_broken_ = false;            // a request between nodes was left pending
  lane_words words_;
  std::string ended_elsewhere_;  // why: a rank that ended, most often on another node
  std::atomic_flag busy_;        // a thread of this rank is in a call
  struct {
    std::uint64_t digest = 0;  // of all that was taken from arenas since ranks last disagreed
    std::string arena;         // the one that gave the latest array
    std::uint64_t count = 0;   // how many it gave
    std::string latest;
  } taken_;
};

/// "name(arguments) at file:line"
std::string text_of(const call& what);

}  // namespace nodeshare
