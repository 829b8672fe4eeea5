// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Whether every node has the same bytes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>

#include "nodeshare/node.hpp"
#include "nodeshare/segment.hpp"

namespace nodeshare {

/// Local. XXH64 with seed 0 (xxhash_spec.md of the xxHash project, 0.1.1): fast, and not for secrets.
[[nodiscard]] std::uint64_t xxh64(std::span<const std::byte> bytes) noexcept;

/// Collective over the communicator. A digest of `bytes` bytes of a segment, `offset` from its beginning, that all
/// nodes agree on; the same on any number of ranks and nodes. Every write before it counts, and every byte: also those
/// between the members of a struct, and those that pad a long double.
///
/// The ranks of a node share the work: the digest is `xxh64` of the 64-bit numbers that are `xxh64` of each MiB.
/// Throws `mismatch` when nodes differ, and says which; `out_of_shared_memory`, `peer_error`, `mpi_error`.
[[nodiscard]] std::uint64_t checksum(const call& what, const std::shared_ptr<segment>& memory, std::size_t offset,
                                     std::size_t bytes);

}  // namespace nodeshare
