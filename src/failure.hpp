// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// What one rank found out alone, before the others know: a value that travels, not yet an exception.
#pragma once

#include <mpi.h>

#include <cstdint>
#include <string>

namespace nodeshare {

enum class failure_kind : std::uint32_t { none, invalid_argument, out_of_shared_memory, mpi, other, peer, mismatch };

/// A rank's trouble on its way to an agreement; false when there is none.
struct failure {
  failure_kind kind = failure_kind::none;
  std::string text;

  explicit operator bool() const noexcept { return kind != failure_kind::none; }
};

/// Throws the exception class that belongs to `kind`.
[[noreturn]] void raise(failure_kind kind, const std::string& text);

/// Throws `mpi_error` unless `code` is MPI_SUCCESS.
void check_mpi(int code, const char* routine);

/// "MPI_Comm_split failed: MPI_ERR_COMM: invalid communicator"
std::string describe_mpi(const char* routine, int code);

/// "3 ranks"; "1 rank"
std::string count_of(std::size_t count, const char* singular);

/// Bytes with a unit that people read: "1.5 GiB".
std::string bytes_text(std::uint64_t bytes);

}  // namespace nodeshare
