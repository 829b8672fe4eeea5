// SPDX-License-Identifier: BSD-3-Clause
#include "pipe.hpp"

#include <atomic>

#include "owner.hpp"
#include "topology_state.hpp"
#include "wait.hpp"

namespace nodeshare {

/// In the front of a heap, behind two rings.
struct pipe_words {
  struct end {
    std::atomic<std::uint64_t> user;       ///< process that used it last
    std::atomic<std::uint64_t> left_by;    ///< user that closed it or has ended: as long as there is no other one
    std::atomic<std::uint32_t> closed_by;  ///< how many
  } ends[2];
};

pipe_end::pipe_end(const std::shared_ptr<segment>& memory, int side)
    : side_(side),
      out_(heap(memory), side == 0 ? 0 : ring::size_bytes(), "send()", "recv()"),
      in_(heap(memory), side == 0 ? ring::size_bytes() : 0, "send()", "recv()"),
      words_(reinterpret_cast<pipe_words*>(out_.memory().front().data() + 2 * ring::size_bytes()))
{
  out_.bound(0, out_.memory().capacity() / 4);
}

void pipe_end::use()
{
  std::atomic<std::uint64_t>& user = words_->ends[side_].user;
  if (const std::uint64_t me = process_name_in(*out_.memory().memory()); user.load(std::memory_order_relaxed) != me) {
    user.store(me, std::memory_order_relaxed);
  }
}

/// Looks every 50 ms whether the process at the other end lives and takes part, also where nothing has to wait.
bool pipe_end::other_is_closed(bool look)
{
  pipe_words::end& other = words_->ends[1 - side_];
  const segment& memory = *in_.memory().memory();
  const std::uint64_t user = other.user.load(std::memory_order_relaxed);
  if (user != 0 && (look || is_my_turn(looked_at_, look_every)) && has_ended(memory, user)) {
    other.left_by.store(user, std::memory_order_release);
  }
  const int ranks = memory.home() ? memory.home()->where().node_size() : 1;
  return (user != 0 && other.left_by.load(std::memory_order_acquire) == user) ||
         (ranks > 1 && other.closed_by.load(std::memory_order_acquire) >= static_cast<std::uint32_t>(ranks));
}

bool pipe_end::send(const parts& value, double seconds)
{
  use();
  return out_.put(value, seconds, [this](bool look) { return other_is_closed(look); });
}

std::optional<taken> pipe_end::receive(double seconds)
{
  use();
  return in_.get(seconds, [this](bool look) { return other_is_closed(look); });
}

bool pipe_end::poll(double seconds)
{
  use();
  return in_.poll(seconds, [this](bool look) { return other_is_closed(look); });
}

void pipe_end::close()
{
  pipe_words::end& mine = words_->ends[side_];
  if (const std::uint64_t me = process_name_in(*out_.memory().memory());
      mine.user.load(std::memory_order_relaxed) == me) {
    mine.left_by.store(me, std::memory_order_release);
  }
  mine.closed_by.fetch_add(1, std::memory_order_release);
  out_.tell();
  in_.tell();
}

}  // namespace nodeshare
