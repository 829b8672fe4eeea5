// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Bytes between files and the memory of nodes, carried by all ranks in parallel.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "nodeshare/node.hpp"
#include "nodeshare/segment.hpp"

namespace nodeshare {

/// A file that this rank has opened for reading; whoever opened it closes it.
struct open_file {
  int descriptor = -1;
  std::int64_t modified = 0;  ///< st_mtim when it was opened, in nanoseconds
  std::string path;           ///< for messages
};

/// Collective over the communicator. Bytes of a file, from `offset` on, into all of `memory` on every node.
///
/// Every rank reads its share straight into place; each byte is read once in the whole job and goes to the other nodes
/// over the lanes. Throws `file_error` where it can't be read, `error` where it became shorter, was written to or
/// replaced since it was opened, `mismatch`, `peer_error`.
void read_file(const call& what, const std::shared_ptr<segment>& memory, const open_file& from, std::size_t offset);

/// Collective over the communicator. A new file at `path`: `header`, then `bytes` bytes of `memory`, from `offset` on,
/// as they are on node 0, whose ranks write them in parallel.
///
/// It replaces what was there at once: it is written beside it as ".<name>.nodeshare-<number>", brought to the disk
/// (fsync(2)) and renamed; a file that is replaced passes on its mode. If anything fails, that one is removed and what
/// was there stays as it is; only a kill leaves it behind. Throws `file_error`, `invalid_argument` for what is there
/// and no file, `mismatch`, `peer_error`.
void write_file(const call& what, const std::shared_ptr<segment>& memory, std::size_t offset, std::size_t bytes,
                const std::string& path, std::string_view header);

}  // namespace nodeshare
