// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Words of shared memory that name the thread which owns something, and the way to wait for one.
///
/// The owner writes its name with one atomic operation and takes it away with one. Whoever waits looks every 50 ms
/// whether the owner lives; if not, it marks the word, and from then on all that come throw.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "nodeshare/error.hpp"
#include "nodeshare/node.hpp"
#include "wait.hpp"

namespace nodeshare {

/// Set in a word whose owner ended without taking its name away.
inline constexpr std::uint64_t left_by_owner = std::uint64_t{1} << 63;

inline constexpr int everybody = 0x7fffffff;  ///< to be woken

/// A word with what those who wait for it share; zero at first.
struct alignas(64) owner_line {
  std::atomic<std::uint64_t> owner;       ///< 0: nobody
  std::atomic<std::uint32_t> sleepers;    ///< how many sleep on `owner`
  std::atomic<std::int64_t> looked_at;    ///< when somebody who does not wait last looked after the owner; milliseconds
  std::atomic<std::int64_t> reported_at;  ///< when somebody last reported a long wait
};

/// Collective over the communicator. Throws `invalid_argument` where its ranks are on several nodes, of which the
/// object would cover each by itself.
void require_one_node(const call& what, const std::shared_ptr<node>& home);
/// Collective over the communicator, likewise. Zeroed memory for the words of an object.
std::shared_ptr<segment> make_words(const call& what, const std::shared_ptr<node>& home, std::size_t bytes);

/// Local. The communicator to probe in a wait. Once the user has freed theirs, ours is gone, too.
MPI_Comm progress_of(const segment& memory) noexcept;
/// Local. Seconds of waiting after which those who wait say so.
double patience_of(const segment& memory) noexcept;
/// Local. Whether a core is free for each rank, so that a wait may spin.
bool may_spin_in(const segment& memory) noexcept;
/// Of all that want to do something at such an `interval`, whether it is this one that does it now.
bool is_my_turn(std::atomic<std::int64_t>& last, std::chrono::duration<double> interval);

/// Local. The name of the calling thread, as a rank of those that share `memory`.
std::uint64_t name_in(const segment& memory) noexcept;
/// Local. Likewise of the calling process, by its main thread.
std::uint64_t process_name_in(const segment& memory) noexcept;
/// The rank in a name.
std::uint64_t rank_in_name(std::uint64_t name) noexcept;
/// Local. "rank 1 on node17"; of a forked child its process as well; empty if there is no owner.
std::string text_of_owner(std::uint64_t owner);
/// Local. Whether the owner's thread, or its rank's part in the job, has ended.
bool has_ended(const segment& memory, std::uint64_t owner);
/// If the word is still `found`: marks it as left by `owner`, which has ended, wakes all, and throws `peer_error`.
void leave_behind(const segment& memory, owner_line& line, std::uint64_t found, std::uint64_t owner);
/// Throws `peer_error` if the word is marked.
void require_not_left(const segment& memory, std::uint64_t owner);
/// What to throw when a thread unlocks what `owner` holds, or nobody.
error not_held(const segment& memory, std::uint64_t owner);
/// Takes the name `me` away and wakes up to `most` that wait. Otherwise returns false and puts what is there into `me`.
bool give_back(owner_line& line, std::uint64_t& me, int most) noexcept;

/// One wait for words to become 0. Its functions throw `peer_error` when the owner of the word has ended, and
/// `interrupted`.
class owner_wait {
 public:
  /// @param seconds  how long, for all calls together; negative: for ever; 0: does not wait, and looks after the owner
  ///                 every 50 ms at most, for the whole node, as somebody may ask in a loop
  owner_wait(const segment& memory, owner_line& line, double seconds) noexcept;

  /// Waits until the line's word is 0. False: the time is over.
  bool until_free() { return until_free(line_.owner, line_.sleepers, 0); }
  /// Likewise another word that holds names. Should its owner have ended, the line's word, which is `on_line`, is
  /// marked.
  bool until_free(std::atomic<std::uint64_t>& word, std::atomic<std::uint32_t>& sleepers, std::uint64_t on_line);
  /// Puts `me` into the line's word as soon as it is 0. False: the time is over.
  bool take(std::uint64_t me);

 private:
  bool pause(std::atomic<std::uint64_t>& word, std::atomic<std::uint32_t>& sleepers, std::uint64_t seen);
  void report(double waited, std::uint64_t owner);

  const segment& memory_;
  owner_line& line_;
  const double seconds_;
  double next_report_;
  bool over_ = false;
  waiter pace_;
};

}  // namespace nodeshare
