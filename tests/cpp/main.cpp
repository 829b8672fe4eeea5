// SPDX-License-Identifier: BSD-3-Clause
// Runs Boost.Test on all ranks of a job: in step, with messages that name the rank, with one verdict, and with an end.
//
// A case that fails on one rank has failed. A case that takes longer than `seconds_per_case` is taken for a hang: each
// rank says so and where it is, and the job is ended. The last line of rank 0, `N passed, N failed, N skipped`, counts cases.
#include <execinfo.h>
#include <mpi.h>
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <boost/test/results_collector.hpp>
#include <boost/test/results_reporter.hpp>
#include <boost/test/unit_test.hpp>
#include <boost/test/unit_test_log.hpp>
#include <cstdio>
#include <iostream>
#include <string>

namespace {

namespace ut = boost::unit_test;

constexpr unsigned seconds_per_case = 60;
constexpr unsigned seconds_for_the_others = 2;  ///< to say where they are, before one of us ends the job

int rank;                ///< in `world`
MPI_Comm world;          ///< a duplicate: no message of a test can be mistaken for one of ours
char hang_message[512];  ///< written beforehand, since a signal handler may not format
std::size_t hang_length;
volatile sig_atomic_t said;
pthread_t main_thread;

void on_alarm(int number)
{
  if (pthread_equal(pthread_self(), main_thread) == 0) {  // one of the MPI's got it
    pthread_kill(main_thread, number);
    return;
  }
  if (said) {
    _exit(1);  // a launcher ends the whole job when a rank ends so; MPI_Abort is not for signal handlers
  }
  said = 1;
  [[maybe_unused]] auto n = write(STDERR_FILENO, hang_message, hang_length);
  void* frames[30];
  backtrace_symbols_fd(frames, backtrace(frames, 30), STDERR_FILENO);
  alarm(seconds_for_the_others);
}

/// Puts the rank before each line.
class prefixed : public std::streambuf {
 public:
  int overflow(int c) override
  {
    line_ += static_cast<char>(c);
    if (c == '\n') {
      std::cerr << "[rank " << rank << "] " << line_ << std::flush;
      line_.clear();
    }
    return c;
  }

 private:
  std::string line_;
};

class in_step : public ut::test_observer {
 public:
  int passed = 0, failed = 0, skipped = 0;

  int priority() override { return 100; }  // after the collector of results

  void test_unit_start(ut::test_unit const& unit) override
  {
    if (unit.p_type != ut::TUT_CASE) return;
    auto n = std::snprintf(hang_message, sizeof hang_message, "test %s hangs on rank %d (for %u s)\n",
                           unit.full_name().c_str(), rank, seconds_per_case);
    hang_length = std::min<std::size_t>(n, sizeof hang_message);
    signal(SIGALRM, on_alarm);
    alarm(seconds_per_case);
  }

  void test_unit_finish(ut::test_unit const& unit, unsigned long) override
  {
    if (unit.p_type != ut::TUT_CASE) return;
    bool const ok = ut::results_collector.results(unit.p_id).passed();
    if (!ok) {  // should the others hang now, this is why
      auto n = std::snprintf(hang_message, sizeof hang_message,
                             "test %s failed on rank %d, which waits for the others\n", unit.full_name().c_str(), rank);
      hang_length = std::min<std::size_t>(n, sizeof hang_message);
    }
    int const mine = !ok;
    int ranks_failed = 0;
    MPI_Allreduce(&mine, &ranks_failed, 1, MPI_INT, MPI_SUM, world);
    alarm(0);
    ++(ranks_failed ? failed : passed);
    if (ranks_failed && rank == 0) {
      std::cerr << "test " << unit.full_name() << " failed, ranks on which it did: " << ranks_failed << '\n';
    }
  }

  void test_unit_skipped(ut::test_unit const& unit, ut::const_string why) override
  {
    // Suites left out on the command line are skipped too; those are not what anybody wants to read.
    if (unit.p_type != ut::TUT_CASE || !unit.is_enabled()) return;
    ++skipped;
    if (rank == 0) std::cout << "SKIPPED " << unit.full_name() << ": " << why << '\n';
  }
};

std::ostream& log_stream()
{
  static prefixed to_stderr;
  static std::ostream log(&to_stderr);
  return log;
}

/// The cases have registered themselves; what is left to do must come after Boost has read the command line.
bool set_up()
{
  static std::ostream nowhere(nullptr);
  ut::unit_test_log.set_stream(log_stream());
  ut::results_reporter::set_stream(nowhere);  // it would tell each rank's own verdict
  return true;
}

}  // namespace

int main(int argc, char** argv)
{
  int provided;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_MULTIPLE, &provided);
  MPI_Comm_dup(MPI_COMM_WORLD, &world);
  MPI_Comm_rank(world, &rank);

  main_thread = pthread_self();
  void* frame;
  backtrace(&frame, 1);  // the first call loads a library, which a signal handler must not

  in_step observer;
  ut::framework::register_observer(observer);

  int const mine = ut::unit_test_main(&set_up, argc, argv);  // not 0 as well if no case is of the name asked for
  int worst = 0;
  MPI_Allreduce(&mine, &worst, 1, MPI_INT, MPI_MAX, world);
  if (rank == 0) std::printf("%d passed, %d failed, %d skipped\n", observer.passed, observer.failed, observer.skipped);
  MPI_Comm_free(&world);
  MPI_Finalize();
  return worst || observer.failed;
}
