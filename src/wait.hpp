// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// The one way to wait, for memory or for MPI: spin, then yield and let MPI progress, then sleep in short futex waits.
#pragma once

#include <mpi.h>

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <source_location>
#include <string>

#include "linux.hpp"
#include "nodeshare/hooks.hpp"

namespace nodeshare {

/// File and line of the user's call, for messages.
std::string where_text(const std::source_location& where);

/// True where this thread may call MPI now: initialised, not finalised, and allowed by the thread level.
bool may_call_mpi() noexcept;

/// Set when MPI_Finalize begins: nothing of the library calls MPI from then on.
extern std::atomic<bool> finalized;

/// How often a wait looks whether peers still live, and for signals.
inline constexpr std::chrono::milliseconds look_every{50};

/// Throws what `require_meetings` says.
[[noreturn]] void refuse_meetings();

/// Throws once MPI has been finalised, and in a forked child: what ranks do together is over there.
inline void require_meetings()
{
  if (finalized.load(std::memory_order_relaxed) || linux_api::forked()) {
    refuse_meetings();
  }
}

/// Paces one wait. The caller looks at what it waits for, and calls `pause` between looks.
class waiter {
 public:
  /// @param spin      whether a core is free for each rank; if not, spinning only delays the one waited for
  /// @param progress  a communicator of ours to probe: without MPI progress `Isend; sync` against `Recv; sync`
  ///                  deadlocks. MPI_COMM_NULL: none
  waiter(bool spin, MPI_Comm progress) noexcept : spins_left_(spin ? most_spins : 0), progress_(progress) {}
  ~waiter()
  {
    if (given_up_ != nullptr) {
      hooks.take_back(given_up_);
    }
  }
  waiter(const waiter&) = delete;
  waiter& operator=(const waiter&) = delete;

  /// Returns true when 50 ms have passed since it last did: time to look whether peers still live, and for signals.
  /// `word`: what the other side changes (and then wakes, if `sleepers` is not zero); `seen`: its last known value.
  bool pause(std::atomic<std::uint64_t>* word = nullptr, std::atomic<std::uint32_t>* sleepers = nullptr,
             std::uint64_t seen = 0);

  /// Seconds since the first pause that was not a spin.
  [[nodiscard]] double waited() const noexcept;

 private:
  using clock = std::chrono::steady_clock;
  static constexpr int most_spins = 90;  // about two microseconds

  int spins_left_;
  MPI_Comm progress_;
  bool started_ = false;
  void* given_up_ = nullptr;  // what `hooks.let_go` gave
  unsigned turns_ = 0;
  clock::time_point start_;
  clock::time_point last_look_;
};

/// While it lives, no signal ends a wait of this thread for an owner: what it does is half done otherwise. The signal is
/// seen by the next wait, or by the language. Only around what soon ends by itself.
class uninterrupted {
 public:
  uninterrupted() noexcept { ++depth; }
  ~uninterrupted() { --depth; }
  uninterrupted(const uninterrupted&) = delete;
  uninterrupted& operator=(const uninterrupted&) = delete;

  [[nodiscard]] static bool here() noexcept { return depth > 0; }

 private:
  static thread_local constinit int depth;
};

/// Waits for a request of ours. `on_look`, called every 50 ms, returns false to give the wait up.
/// Returns false if it was given up: the request then stays pending and its buffers must stay.
bool wait_for(MPI_Request& request, const char* routine, const std::function<bool(double seconds)>& on_look);

/// Keeps what a request that was given up may still read or write, until the process is gone.
void leave_to_mpi(std::shared_ptr<void> buffer);

}  // namespace nodeshare
