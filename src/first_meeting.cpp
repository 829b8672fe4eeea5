// SPDX-License-Identifier: BSD-3-Clause
#include "first_meeting.hpp"

#include <cstdio>
#include <string>

#include "failure.hpp"
#include "farewell.hpp"
#include "nodeshare/error.hpp"
#include "settings.hpp"
#include "wait.hpp"

namespace nodeshare {

void require_usable(MPI_Comm comm)
{
  int initialized = 0;
  int ended = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&ended);
  if (initialized == 0) {
    throw error("MPI has not been initialised: call MPI_Init or MPI_Init_thread before nodeshare");
  }
  if (ended != 0) {
    throw error("MPI has been finalised: views stay valid, but ranks no longer meet");
  }
  require_meetings();
  if (comm == MPI_COMM_NULL) {
    throw invalid_argument("the communicator is MPI_COMM_NULL: pass one that this rank belongs to");
  }
  int inter = 0;
  check_mpi(MPI_Comm_test_inter(comm, &inter), "MPI_Comm_test_inter");
  if (inter != 0) {
    throw invalid_argument(
        "an inter-communicator has two groups that share nothing: pass an intra-communicator (MPI_Intercomm_merge)");
  }
  int world = 1;
  check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &world), "MPI_Comm_size");
  std::string name;
  if (const int launched = ranks_by_launcher(name); world == 1 && launched > 1) {
    char version[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length = 0;
    MPI_Get_library_version(version, &length);
    const std::string library(version, static_cast<std::size_t>(length));
    throw invalid_argument("the launcher started " + std::to_string(launched) + " ranks (" + name +
                           "), but MPI_COMM_WORLD has 1: it does not belong to the MPI library in use, " +
                           library.substr(0, library.find_first_of(",\n")) + "; use that library's own mpiexec");
  }
}

void meet_first(MPI_Comm comm, double patience, const std::string& place)
{
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPI_Ibarrier(comm, &request), "MPI_Ibarrier");
  int rank = 0;
  int size = 1;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
  double report = patience;
  std::string ended;
  const bool met = wait_for(request, "MPI_Ibarrier", [&](double seconds) {
    if (seconds >= report) {
      std::fprintf(stderr,
                   "nodeshare: rank %d waits at %s for %.0f s: not all %d ranks of the communicator have come to their "
                   "first nodeshare call on it (is the call inside `if rank == 0:`? it is collective)\n",
                   rank, place.c_str(), seconds, size);
      report *= 2;
    }
    ended = farewell_of(comm);
    return ended.empty() && (hooks.interrupted == nullptr || !hooks.interrupted());
  });
  if (!ended.empty()) {
    throw peer_error(ended + ", while rank " + std::to_string(rank) + " was at " + place +
                     " in the communicator's first nodeshare call, which is collective: is it inside `if rank == 0:`?");
  }
  if (!met) {
    throw interrupted("interrupted while waiting for the communicator's other ranks");
  }
}

settings agree_settings(MPI_Comm all, int rank)
{
  failure why;
  settings out;
  char text[512] = "";
  if (rank == 0) {
    out = read_settings(why);
    std::snprintf(text, sizeof text, "%s", why.text.c_str());
  }
  check_mpi(MPI_Bcast(text, sizeof text, MPI_CHAR, 0, all), "MPI_Bcast");
  if (text[0] != '\0') {
    throw invalid_argument(text);
  }
  check_mpi(MPI_Bcast(&out, sizeof out, MPI_BYTE, 0, all), "MPI_Bcast");
  return out;
}

}  // namespace nodeshare
