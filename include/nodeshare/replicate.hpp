// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// The same bytes on every node, over lanes.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "nodeshare/node.hpp"
#include "nodeshare/segment.hpp"

namespace nodeshare {

/// Bytes of a segment that are right on one node: `count` blocks of `bytes` bytes, `stride` bytes apart.
struct byte_run {
  std::size_t offset = 0;
  std::size_t bytes = 0;
  int node = 0;
  std::size_t stride = 0;
  std::size_t count = 1;
};

/// Rows [first, last) of an array that are right on one node.
struct row_block {
  std::size_t first = 0;
  std::size_t last = 0;
  int node = 0;
};

/// How the rows (the first axis) of an array lie in its memory.
struct row_layout {
  std::size_t rows = 0;
  std::size_t row_bytes = 0;   ///< C order: of a whole row; Fortran order: of one element
  std::size_t columns = 1;     ///< Fortran order: how many columns of `rows` elements; C order: 1
  std::size_t offset = 0;      ///< where the array begins in its memory
};

/// Collective over the communicator. Carries every run from its node into the same bytes of all other nodes, straight
/// into the shared pages: each lane its own share, in chunks, several in flight. Runs must not overlap and be the same on
/// every rank. Throws `mismatch`, `peer_error`, `mpi_error`; then the bytes of other nodes are unspecified.
void replicate(const call& what, const std::shared_ptr<segment>& memory, std::span<const byte_run> runs);

/// Collective over the communicator. All bytes of the node of rank `root`, to every node.
/// Throws `invalid_argument` if there is no such rank, and like `replicate`.
void bcast(const std::shared_ptr<segment>& memory, int root,
           std::source_location where = std::source_location::current());

/// Collective over the communicator. Each row from the node that has it; see `replicate`.
void allgather(const call& what, const std::shared_ptr<segment>& memory, const row_layout& layout,
               std::span<const row_block> rows);

/// Local. Rows dealt by `topology::local_range`: each from the node of the rank whose range holds it.
[[nodiscard]] std::vector<row_block> default_owners(const node& where, std::size_t rows);

}  // namespace nodeshare
