// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// One rank's private bytes into a segment of its node, by all its ranks at once.
#pragma once

#include <cstddef>
#include <functional>

#include "control_page.hpp"
#include "failure.hpp"
#include "provider.hpp"

namespace nodeshare {

/// Looks whether the system has so many bytes more.
using look_ahead = std::function<failure(std::size_t)>;

/// What is known of the pages and the ranks.
struct fill_by {
  bool fresh;      ///< pages are still to be taken from the system
  bool core_each;  ///< each rank has a core; if not, copies into pages that are there are the root's alone
};

/// Local, by every rank of the node between two meetings; the leader has set `page_header::claimed` to 0, and rank
/// `root` of the node has left the address of its bytes in its record.
///
/// Taking a page from the system costs more than copying it, so the ranks share it: the root goes from the front, by
/// pwrite(2) where there is a file, which faults in no mapping; the others from the back, by process_vm_readv(2) from the
/// root's memory. Where the system forbids that, they make the pages present and the root copies.
failure fill(control_page& page, int node_rank, int root, const segment_parts& parts, fill_by how, const look_ahead& look);

}  // namespace nodeshare
