// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// What nodeshare throws. A collective call throws on every rank of its scope, or on none.
#pragma once

#include <stdexcept>
#include <string>

namespace nodeshare {

/// Base of everything that nodeshare throws.
class error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// An argument that cannot be meant: a negative extent, a root that does not exist, a null communicator.
class invalid_argument : public error {
 public:
  using error::error;
};

/// The ranks of a collective called different things; the text names the ranks, the calls and their places.
class mismatch : public error {
 public:
  using error::error;
};

/// The memory does not suffice; the text says what was asked, what is free where, and what to change.
class out_of_shared_memory : public error {
 public:
  using error::error;
};

/// An MPI routine failed.
class mpi_error : public error {
 public:
  mpi_error(std::string routine, int code);

  /// Local. The routine's name, as in "MPI_Comm_split".
  [[nodiscard]] const std::string& routine() const noexcept { return routine_; }
  /// Local. The error code that it returned (MPI-3.1, 8.4).
  [[nodiscard]] int code() const noexcept { return code_; }

 private:
  std::string routine_;
  int code_;
};

/// A file can't be opened, read or written.
class file_error : public error {
 public:
  /// `code` as in errno(3).
  file_error(std::string path, int code);

  /// Local. The file; the error code, as in errno(3).
  [[nodiscard]] const std::string& path() const noexcept { return path_; }
  [[nodiscard]] int code() const noexcept { return code_; }

 private:
  std::string path_;
  int code_;
};

/// Another rank failed or ended; the text names it, its node and what it said.
class peer_error : public error {
 public:
  using error::error;
};

/// A wait was ended from outside (in Python by a signal); the rank leaves its call, the others get a `peer_error`.
class interrupted : public error {
 public:
  using error::error;
};

}  // namespace nodeshare
