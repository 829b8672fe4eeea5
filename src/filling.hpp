// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// One rank's private bytes into a segment of its node, by all its ranks at once.
#pragma once

#include "control_page.hpp"
#include "failure.hpp"
#include "limits.hpp"
#include "provider.hpp"

namespace nodeshare {

/// Local, by every rank of the node between two meetings; before, each has set `claimed` in its record to 0, and rank
/// `root` of the node has left the address of its pieces there.
///
/// Taking a page from the system costs more than copying it. So each rank begins with its own block, and then takes what is
/// left of the others', the pages of each chunk first if they are `fresh` (still to be taken). All but the root read its
/// memory by process_vm_readv(2); where the system forbids that, they make their pages present and the root copies.
failure fill(control_page& page, int node_rank, int root, const segment_parts& parts, bool fresh, const look_ahead& look);

}  // namespace nodeshare
