// SPDX-License-Identifier: BSD-3-Clause
// C++'s sync(), for ranks_calls.py, which times it beside Python's in the same processes.
#include <mpi.h>

#include <array>
#include <chrono>
#include <cstdio>
#include <optional>

#include "nodeshare/nodeshare.hpp"

/// Collective over the communicator (a Fortran handle, the same in all calls): the first call makes the array, too.
/// Seconds that `calls` calls of `sync` take this rank; negative on an error, which it prints.
extern "C" double nodeshare_benchmark_syncs(MPI_Fint comm, long calls)
{
  try {
    static std::optional<nodeshare::shared_array<double>> array;
    if (!array) {
      array.emplace(MPI_Comm_f2c(comm), std::array<std::size_t, 1>{1});
    }
    const auto begin = std::chrono::steady_clock::now();
    for (long i = 0; i < calls; ++i) {
      array->sync();
    }
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
  } catch (const nodeshare::error& why) {
    std::fprintf(stderr, "%s\n", why.what());
    return -1;
  }
}
