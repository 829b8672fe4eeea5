// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// A communicator split into nodes and lanes.
#pragma once

#include <mpi.h>

#include "nodeshare/topology.hpp"
#include "topology_state.hpp"

namespace nodeshare {

/// Collective over the communicator. As MPI_Comm_split, with MPI_ERRORS_RETURN.
MPI_Comm split(MPI_Comm comm, int color, int key);

/// Collective over the communicator. Throws `mismatch` unless all ask for the same: ranks that ask for a topology each
/// of its own kind would wait for each other in different calls of MPI.
void agree_on(per each, MPI_Comm all);

/// Collective over the communicator. The ranks that share memory with this one, or its pretend node.
MPI_Comm split_by_memory(topology_state& state);

/// Collective over the communicator. The ranks of a node, which end with this, split by the NUMA domain that each is
/// bound to; throws `invalid_argument` on all ranks when one is bound to none.
MPI_Comm split_by_domain(const topology_state& state, MPI_Comm node);

/// Collective over the communicator. Numbers the nodes, and splits it into lanes.
void number_nodes(topology_state& state);

}  // namespace nodeshare
