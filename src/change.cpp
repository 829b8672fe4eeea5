// SPDX-License-Identifier: BSD-3-Clause
#include "change.hpp"

#include <cstdio>

#include "linux.hpp"
#include "meeting.hpp"
#include "nodeshare/error.hpp"
#include "owner.hpp"

namespace nodeshare {

void change_line::tell() noexcept
{
  changes.fetch_add(1, std::memory_order_seq_cst);
  if (sleepers.load(std::memory_order_seq_cst) != 0) {
    linux_api::futex_wake(changes);
  }
}

change_wait::change_wait(const segment& memory, change_line& line, double seconds, std::string_view routine) noexcept
    : memory_(memory),
      line_(line),
      seconds_(seconds),
      routine_(routine),
      next_report_(patience_of(memory)),
      pace_(may_spin_in(memory), progress_of(memory))
{}

bool change_wait::wait(std::uint64_t seen, const std::function<bool(bool look)>& over)
{
  looked_ = false;
  const auto late = [this] { return seconds_ == 0 || (seconds_ > 0 && pace_.waited() >= seconds_); };
  while (line_.changes.load(std::memory_order_acquire) == seen) {
    if (late()) {
      return false;
    }
    if (!pace_.pause(&line_.changes, &line_.sleepers, seen)) {
      continue;
    }
    const std::string what = std::string(routine_).append(" of ").append(memory_.description());
    if (hooks.interrupted != nullptr && hooks.interrupted()) {
      throw interrupted("interrupted in " + what);
    }
    const bool look = is_my_turn(line_.looked_at, look_every);
    std::string lost = memory_.home() ? memory_.home()->meetings().lost_peer(look) : "";
    // what it still did before it ended is there by now
    if (!lost.empty() && line_.changes.load(std::memory_order_acquire) == seen && !(over && over(true))) {
      throw peer_error(lost.append(", while this rank waited in ").append(what));
    }
    if (const double waited = pace_.waited(); waited >= next_report_) {
      next_report_ *= 2;
      if (is_my_turn(line_.reported_at, std::chrono::duration<double>(patience_of(memory_)))) {
        std::fprintf(stderr, "nodeshare: a wait is long: %s for %d s in %s\n", text_of_owner(name_in(memory_)).c_str(),
                     static_cast<int>(waited), what.c_str());
      }
    }
    looked_ = true;
    return true;
  }
  return seconds_ <= 0 || !late();  // others may be faster each time
}

}  // namespace nodeshare
