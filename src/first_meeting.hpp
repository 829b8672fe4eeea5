// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// What comes before a communicator's ranks have a page to meet in.
#pragma once

#include <mpi.h>

#include <string>

#include "topology_state.hpp"

namespace nodeshare {

/// Local. Throws `error` before MPI_Init and after MPI_Finalize; `invalid_argument` for a communicator that can have no
/// topology, and where the launcher is another MPI's.
void require_usable(MPI_Comm comm);

/// Collective over the communicator. The first meeting of its ranks: no page of ours exists yet, so it is MPI's, but
/// with messages. Throws `peer_error` when one has ended, `interrupted`.
void meet_first(MPI_Comm comm, double patience, const std::string& place);

/// Collective over the communicator. The settings of rank 0; throws `invalid_argument` on all ranks for bad ones.
settings agree_settings(MPI_Comm all, int rank);

}  // namespace nodeshare
