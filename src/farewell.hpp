// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// The word that a rank leaves when it ends, for ranks that wait in the first call on a communicator: they have no
/// control page yet, and MPI says nothing of ranks that are in MPI_Finalize.
#pragma once

#include <mpi.h>

#include <string>
#include <string_view>

namespace nodeshare {

/// Leaves word that this rank of MPI_COMM_WORLD has ended. The word is the name of an abstract socket (unix(7)): other
/// processes of this machine and job can read it, and the kernel takes it away with the process.
void leave_farewell(int world_rank, std::string_view how) noexcept;

/// "rank 1 of MPI_COMM_WORLD has ended (how)" for a rank of `comm` on this machine that left word; empty if none did.
std::string farewell_of(MPI_Comm comm);

}  // namespace nodeshare
