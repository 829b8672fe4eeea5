// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// What the limits of each rank, its control groups and its memory say to a request, before any of it is taken.
#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>

#include "control_page.hpp"
#include "failure.hpp"
#include "nodeshare/segment.hpp"
#include "topology_state.hpp"

namespace nodeshare {

/// Local. What stands in the way of `bytes` here; also leaves in this rank's record which memory it could take part in, and
/// what its control groups leave it.
/// @param window_directory  where this MPI keeps windows; empty: none are to be had
failure look_at_limits(const topology_state& where, rank_record& mine, const std::string& window_directory,
                       std::size_t bytes, bool reserve);

/// By the leader, after all have looked: the memory that every rank of the node could take part in.
failure choose_memory(const topology_state& where, control_page& page, memory_kind& out);

/// By the leader, after all have looked. A group pays for the pages that its ranks touch first, their blocks of the array;
/// those of other nodes on this machine (pretended ones, NUMA domains) are taken to be in the same group.
failure look_at_groups(const topology_state& where, const control_page& page, std::size_t bytes);

/// Looks whether the system has so many bytes more.
using look_ahead = std::function<failure(std::size_t)>;

/// Between two looks, most often.
inline constexpr std::size_t step_bytes = std::size_t{64} << 20;

/// Local. A look, now and then while `ranks` ranks of this machine take pages, at what the control groups leave: other
/// programs take memory too.
look_ahead look_ahead_of(int ranks);

/// Local. A look, each time, at what the control groups and the system leave to a rank that takes pages alone.
failure look_now(std::size_t bytes);

/// Local. Makes pages present in steps, with a look before each.
failure populate(std::span<std::byte> pages, const look_ahead& look);

failure out_of_memory(std::string text);

}  // namespace nodeshare
