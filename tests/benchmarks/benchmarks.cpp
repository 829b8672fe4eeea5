// SPDX-License-Identifier: BSD-3-Clause
// The C++ side of the benchmarks; tests/benchmarks/run.py starts it, and tells what its figures mean.
//
//   nodeshare_benchmarks MEASURE REPETITIONS [CALLS [CORES]]      MEASURE: create, reserve, triad, sync, arena
//
// Times nodeshare and its floor (what raw MPI takes for the same) in one run, in random order, and prints a line of
// JSON for each: its name and the seconds of each repetition, which are those of the slowest rank. CALLS, of `sync`
// and `arena`, are made in each repetition; CORES, as "0,1", are those that all ranks share.
#include <mpi.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <memory>
#include <numeric>
#include <optional>
#include <random>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include "nodeshare/nodeshare.hpp"

namespace {

using nodeshare::shared_array;
using nodeshare::topology;

constexpr std::size_t gibibyte = std::size_t{1} << 30;
constexpr std::size_t page = 4096;
constexpr int warm_up = 3;

double seconds_of(const auto& work)
{
  const auto begin = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

/// What is timed: collective over the job, returns the seconds that it took this rank.
struct candidate {
  std::string name;
  std::function<double()> run;
};

/// Collective over the job. Runs all candidates in each repetition, in random order, and prints what they took.
void compare(const std::vector<candidate>& candidates, int repetitions)
{
  std::mt19937 random(1);  // on all ranks the same
  std::vector<std::size_t> order(candidates.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::vector<std::vector<double>> seconds(candidates.size());
  for (int i = -warm_up; i < repetitions; ++i) {
    std::shuffle(order.begin(), order.end(), random);
    for (const std::size_t which : order) {
      MPI_Barrier(MPI_COMM_WORLD);
      const double took = candidates[which].run();
      if (i >= 0) {
        seconds[which].push_back(took);
      }
    }
  }
  int rank = 0;
  MPI_Comm_rank(MPI_COMM_WORLD, &rank);
  for (std::size_t which = 0; which < candidates.size(); ++which) {
    std::vector<double> slowest(seconds[which].size());
    MPI_Reduce(seconds[which].data(), slowest.data(), repetitions, MPI_DOUBLE, MPI_MAX, 0, MPI_COMM_WORLD);
    if (rank == 0) {
      std::printf("{\"name\": \"%s\", \"seconds\": [", candidates[which].name.c_str());
      for (std::size_t i = 0; i < slowest.size(); ++i) {
        std::printf("%s%.9g", i == 0 ? "" : ", ", slowest[i]);
      }
      std::printf("]}\n");
    }
  }
}

/// A topology of its own for one kind of memory, as that is settled when a topology is made.
topology topology_with(const char* memory)
{
  ::setenv("NODESHARE_MEMORY", memory, 1);
  MPI_Comm comm = MPI_COMM_NULL;
  MPI_Comm_dup(MPI_COMM_WORLD, &comm);
  topology where(comm);
  if (where.nodes() > 1) {
    throw nodeshare::error("the ranks are on " + std::to_string(where.nodes()) + " nodes: run the benchmarks on one");
  }
  shared_array<char>(where, {1});  // makes the node's control page
  return where;
}

struct memory {
  std::string name;
  topology where;
};

std::vector<memory> memories() { return {{"window", topology_with("window")}, {"memfd", topology_with("memfd")}}; }

/// The floor: a window as MPI gives it, all of it rank 0's.
class raw_window {
 public:
  explicit raw_window(std::size_t bytes)
  {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    // not whole pages: for those MPICH before 4.4 takes 150 ms a GiB, and is no floor
    const auto asked = static_cast<MPI_Aint>(rank == 0 ? bytes + 64 : 0);
    void* mine = nullptr;
    MPI_Win_allocate_shared(asked, 1, MPI_INFO_NULL, MPI_COMM_WORLD, &mine, &handle_);
  }
  ~raw_window() { MPI_Win_free(&handle_); }
  raw_window(const raw_window&) = delete;
  raw_window& operator=(const raw_window&) = delete;

  [[nodiscard]] void* data() const
  {
    void* base = nullptr;
    MPI_Aint size = 0;
    int unit = 0;
    MPI_Win_shared_query(handle_, 0, &size, &unit, &base);
    return base;
  }

 private:
  MPI_Win handle_ = MPI_WIN_NULL;
};

/// Throws where a raw window of so many bytes would hang or end the job.
void require_room(const memory& window, std::size_t bytes)
{
  shared_array<char>(window.where, {bytes}, {.reserve = false});
}

/// Gives what was let go back to the system, or the next array would be made in it.
void trim(const topology& where) { nodeshare::node::of(where)->trim(nodeshare::call("trim", "")); }

/// Creating and dropping without reserving, against MPI_Win_allocate_shared and MPI_Win_free: in new memory that goes back
/// to the system, and in memory that is used again.
void create(int repetitions)
{
  const auto kinds = memories();
  require_room(kinds[0], gibibyte);
  std::vector<candidate> candidates;
  for (const auto& [size, bytes] : {std::pair{"8 KiB", 2 * page}, {"1 GiB", gibibyte}}) {
    candidates.push_back(
        {std::string("raw ") + size, [bytes] { return seconds_of([&] { const raw_window made(bytes); }); }});
    for (const auto& [name, where] : kinds) {
      const auto once = [where, bytes] {
        shared_array<char>(where, {bytes}, {.reserve = false, .holds = nodeshare::content::unspecified});
      };
      candidates.push_back({name + " " + size, [where, once] {
                              return seconds_of([&] {
                                once();
                                trim(where);
                              });
                            }});
      candidates.push_back({name + " " + size + " again", [where, once] {
                              once();
                              const double took = seconds_of(once);
                              trim(where);
                              return took;
                            }});
    }
  }
  compare(candidates, repetitions);
}

/// 1 GiB of zeros, each page present, against a raw window that rank 0 touches, or clears. Giving back is not counted.
void reserve(int repetitions)
{
  const auto kinds = memories();
  require_room(kinds[0], gibibyte);
  const bool leads = kinds[0].where.rank() == 0;
  const auto raw = [leads](const auto& use) {
    std::optional<raw_window> made;
    return seconds_of([&] {
      made.emplace(gibibyte);
      if (leads) {
        use(static_cast<char*>(made->data()));
      }
      MPI_Barrier(MPI_COMM_WORLD);
    });
  };
  const auto touch = [](volatile char* bytes) {
    for (std::size_t i = 0; i < gibibyte; i += page) {
      bytes[i] = 0;
    }
  };
  const auto clear = [](char* bytes) { std::memset(bytes, 0, gibibyte); };
  std::vector<candidate> candidates{{"touch", [=] { return raw(touch); }}, {"memset", [=] { return raw(clear); }}};
  for (const auto& [name, where] : kinds) {
    candidates.push_back({name, [where] {
                            std::optional<shared_array<char>> made;
                            const double took = seconds_of([&] { made.emplace(where, std::array{gibibyte}); });
                            made.reset();
                            trim(where);
                            return took;
                          }});
  }
  compare(candidates, repetitions);
}

/// STREAM's triad; one function for all memory.
[[gnu::noinline]] void triad(double* a, const double* b, const double* c, std::size_t count)
{
  for (std::size_t i = 0; i < count; ++i) {
    a[i] = b[i] + 3.0 * c[i];
  }
}

/// Bytes of shared memory that this process sees through 2 MiB pages.
std::size_t bytes_in_huge_pages()
{
  std::ifstream rollup("/proc/self/smaps_rollup");
  for (std::string line; std::getline(rollup, line);) {
    if (line.rfind("ShmemPmdMapped:", 0) == 0) {
      return std::strtoull(line.c_str() + line.find(':') + 1, nullptr, 10) * 1024;
    }
  }
  return 0;
}

/// Three arrays, made and let go together: shared ones, or raw windows.
struct three {
  std::vector<std::unique_ptr<raw_window>> windows;
  std::vector<shared_array<double>> arrays;
  std::array<double*, 3> data{};

  three(const topology* where, std::size_t rows)
  {
    for (double*& one : data) {
      one =
          where != nullptr
              ? arrays.emplace_back(*where, std::array{rows}).data()
              : static_cast<double*>(windows.emplace_back(std::make_unique<raw_window>(rows * sizeof(double)))->data());
    }
  }
};

/// STREAM's triad over three arrays, each rank its rows, in shared arrays and in raw windows whose pages each rank has
/// placed likewise. They are made anew several times: where pages lie in memory makes some percent.
void triads(int repetitions)
{
  constexpr std::size_t bytes = std::size_t{128} << 20;
  constexpr std::size_t rows = bytes / sizeof(double);
  constexpr int rounds = 6;
  const auto kinds = memories();
  require_room(kinds[0], 6 * bytes);
  const auto [first, last] = kinds[0].where.local_range(rows);
  for (int round = 0; round < rounds; ++round) {
    std::vector<std::pair<std::string, const topology*>> sources{{"raw", nullptr}};
    for (const memory& kind : kinds) {
      sources.emplace_back(kind.name, &kind.where);
    }
    std::rotate(sources.begin(), sources.begin() + round % 3, sources.end());
    std::vector<candidate> candidates;
    for (const auto& [name, where] : sources) {
      const std::size_t huge_before = bytes_in_huge_pages();
      const auto made = std::make_shared<three>(where, rows);
      for (double* array : made->data) {
        std::fill(array + first, array + last, 1.0);
      }
      MPI_Barrier(MPI_COMM_WORLD);
      if (kinds[0].where.rank() == 0) {
        std::printf("{\"name\": \"%s, 2 MiB pages\", \"bytes\": %zu}\n", name.c_str(),
                    bytes_in_huge_pages() - huge_before);
      }
      candidates.push_back({name, [made, from = first, count = last - first] {
                              const auto& [x, y, z] = made->data;
                              return seconds_of([&] { triad(x + from, y + from, z + from, count); });
                            }});
    }
    compare(candidates, repetitions / rounds);
  }
}

/// The least that two ranks can do to wait for each other: each counts in a cache line of its own, and looks at the
/// other's.
class bare_flags {
 public:
  explicit bare_flags(const topology& where) : lines_(where, {2}), rank_(where.rank() % 2) {}

  void meet()
  {
    ++met_;
    auto* lines = lines_.data();
    std::atomic_ref(lines[rank_].met).store(met_, std::memory_order_release);
    while (std::atomic_ref(lines[1 - rank_].met).load(std::memory_order_acquire) < met_) {
    }
  }

 private:
  struct line {
    alignas(64) std::uint64_t met;
  };
  shared_array<line> lines_;
  int rank_;
  std::uint64_t met_ = 0;
};

/// sync() against MPI_Barrier, and at two ranks against bare flags: seconds of a call, of `calls` in a row.
void sync(int repetitions, int calls)
{
  const topology where(MPI_COMM_WORLD);
  const shared_array<double> array(where, {1});
  bare_flags flags(where);
  const auto each = [calls](const auto& call) {
    return [=] {
      const auto all_calls = [&] {
        for (int i = 0; i < calls; ++i) {
          call();
        }
      };
      // Where ranks share cores, the barrier before may let the last rank go 16 ms after the first, and the scheduler
      // remembers who spun in it; and who is in the barrier after it may keep a rank that is still timed from its core.
      all_calls();
      const double seconds = seconds_of(all_calls);
      call();
      return seconds / calls;
    };
  };
  std::vector<candidate> candidates{{"sync", each([&] { array.sync(); })},
                                    {"barrier", each([] { MPI_Barrier(MPI_COMM_WORLD); })}};
  if (where.size() == 2) {
    candidates.push_back({"flags", each([&] { flags.meet(); })});
  }
  compare(candidates, repetitions);
}

/// Bytes of this process that it shares with no other: all but those of shared memory, by proportional set size
/// (proc(5)).
double private_bytes()
{
  std::ifstream rollup("/proc/self/smaps_rollup");
  double all = 0, shared = 0;
  for (std::string line; std::getline(rollup, line);) {
    std::sscanf(line.c_str(), "Pss: %lf", &all);
    std::sscanf(line.c_str(), "Pss_Shmem: %lf", &shared);
  }
  return (all - shared) * 1024;
}

void arena(int repetitions, int calls)
{
  const topology where(MPI_COMM_WORLD);
  const auto count = static_cast<std::size_t>(calls);
  std::vector<nodeshare::array_view<double, 1>> arrays;
  arrays.reserve(count);
  const auto take = [&] {
    nodeshare::arena from(where, 64 * count);
    arrays.clear();
    return seconds_of([&] {
             for (std::size_t i = 0; i < count; ++i) {
               arrays.push_back(from.zeros<double>({8}));
             }
           }) /
           calls;
  };
  nodeshare::arena(where, 64).zeros<double>({8});
  const double before = private_bytes();
  take();
  double each = (private_bytes() - before) / calls;
  MPI_Allreduce(MPI_IN_PLACE, &each, 1, MPI_DOUBLE, MPI_MAX, MPI_COMM_WORLD);
  if (where.rank() == 0) {
    std::printf("{\"name\": \"bytes\", \"each\": %.9g}\n", each);
  }
  compare({{"arena", take}}, repetitions);
}

void stay_on(const std::string& cores)
{
  cpu_set_t set;
  CPU_ZERO(&set);
  std::istringstream words(cores);
  for (std::string word; std::getline(words, word, ',');) {
    CPU_SET(std::atoi(word.c_str()), &set);
  }
  if (::sched_setaffinity(0, sizeof set, &set) != 0) {
    throw nodeshare::error("cannot run on cores " + cores);
  }
}

void run(const std::string& measure, int repetitions, int calls, const std::string& cores)
{
  if (!cores.empty()) {
    stay_on(cores);
  }
  if (measure == "create") {
    create(repetitions);
  } else if (measure == "reserve") {
    reserve(repetitions);
  } else if (measure == "triad") {
    triads(repetitions);
  } else if (measure == "sync") {
    sync(repetitions, calls);
  } else if (measure == "arena") {
    arena(repetitions, calls);
  } else {
    throw nodeshare::error("there is no measure " + measure);
  }
}

}  // namespace

int main(int argc, char** argv)
{
  MPI_Init(&argc, &argv);
  try {
    const auto word = [&](int i, const char* otherwise) { return std::string(i < argc ? argv[i] : otherwise); };
    run(word(1, ""), std::stoi(word(2, "10")), std::stoi(word(3, "1000")), word(4, ""));
  } catch (const std::exception& why) {
    std::fprintf(stderr, "%s\n", why.what());
    MPI_Abort(MPI_COMM_WORLD, 1);  // the other ranks may wait for this one
  }
  MPI_Finalize();
  return 0;
}
