// SPDX-License-Identifier: BSD-3-Clause
#include "wait.hpp"

#include <sched.h>
#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include <mutex>
#include <utility>
#include <vector>

#include "failure.hpp"
#include "linux.hpp"
#include "nodeshare/error.hpp"

namespace nodeshare {
namespace {

constexpr auto yield_for = std::chrono::milliseconds(1);
constexpr std::uint32_t nap_microseconds = 1000;         // MPI must progress meanwhile, so naps stay short
constexpr std::uint32_t request_nap_microseconds = 100;  // nobody wakes us for a request

void relax() noexcept
{
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

}  // namespace

wait_hooks hooks;
std::atomic<bool> finalized{false};
thread_local constinit int uninterrupted::depth = 0;

std::string where_text(const std::source_location& where)
{
  if (hooks.where != nullptr) {
    if (std::string place = hooks.where(); !place.empty()) {
      return place;
    }
  }
  const std::string file = where.file_name();
  return file.substr(file.rfind('/') + 1) + ':' + std::to_string(where.line());
}

bool may_call_mpi() noexcept
{
  if (finalized.load(std::memory_order_relaxed) || linux_api::forked()) {
    return false;
  }
  static const int level = [] {
    int provided = MPI_THREAD_SINGLE;
    MPI_Query_thread(&provided);
    return provided;
  }();
  if (level >= MPI_THREAD_SERIALIZED) {
    return true;
  }
  int is_main = 0;
  MPI_Is_thread_main(&is_main);
  return is_main != 0;
}

void refuse_meetings()
{
  throw error(
      finalized.load(std::memory_order_relaxed)
          ? "MPI has been finalised: views stay valid, but ranks no longer meet"
          : "this process was forked from a rank: it may read and write views, but takes no part in collectives");
}

bool waiter::pause(std::atomic<std::uint64_t>* word, std::atomic<std::uint32_t>* sleepers, std::uint64_t seen)
{
  if (spins_left_ > 0) {
    --spins_left_;
    relax();  // in each turn: looks at once fetch the line so often that its writer waits for it, a third of a meeting
    return false;
  }
  const auto now = clock::now();
  if (!started_) {
    started_ = true;
    given_up_ = hooks.let_go != nullptr ? hooks.let_go() : nullptr;
    start_ = last_look_ = now;
  }
  const bool patient = now - start_ > yield_for;
  if ((patient || turns_ % 2 == 1) && progress_ != MPI_COMM_NULL && may_call_mpi()) {
    int ignored = 0;
    MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, progress_, &ignored, MPI_STATUS_IGNORE);
  }
  if (!patient) {
    if (turns_ % 2 == 0) {
      sched_yield();
    }
    ++turns_;
    return false;
  }
  if (word != nullptr) {
    sleepers->fetch_add(1, std::memory_order_seq_cst);
    if (word->load(std::memory_order_seq_cst) == seen) {
      linux_api::futex_wait(*word, seen, nap_microseconds);
    }
    sleepers->fetch_sub(1, std::memory_order_relaxed);
  } else {
    std::atomic<std::uint64_t> nobody{0};
    linux_api::futex_wait(nobody, 0, request_nap_microseconds);
  }
  if (now - last_look_ < look_every) {
    return false;
  }
  last_look_ = now;
  return true;
}

double waiter::waited() const noexcept
{
  return started_ ? std::chrono::duration<double>(clock::now() - start_).count() : 0;
}

bool wait_for(MPI_Request& request, const char* routine, const std::function<bool(double)>& on_look)
{
  waiter pace(false, MPI_COMM_NULL);
  int done = 0;
  while (true) {
    check_mpi(MPI_Test(&request, &done, MPI_STATUS_IGNORE), routine);
    if (done != 0) {
      return true;
    }
    if (pace.pause() && !on_look(pace.waited())) {
      return false;
    }
  }
}

void leave_to_mpi(std::shared_ptr<void> buffer)
{
  static std::mutex mutex;
  static auto* kept = new std::vector<std::shared_ptr<void>>;  // never destroyed: MPI may outlive our objects
  const std::lock_guard lock(mutex);
  kept->push_back(std::move(buffer));
}

}  // namespace nodeshare
