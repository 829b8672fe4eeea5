// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/error.hpp"

#include <cstdio>
#include <cstring>
#include <utility>

#include "failure.hpp"

namespace nodeshare {

mpi_error::mpi_error(std::string routine, int code)
    : error(describe_mpi(routine.c_str(), code)), routine_(std::move(routine)), code_(code)
{
}

file_error::file_error(std::string path, int code)
    : error(path + ": " + std::strerror(code)), path_(std::move(path)), code_(code)
{
}

void raise(failure_kind kind, const std::string& text)
{
  switch (kind) {
    case failure_kind::invalid_argument: throw invalid_argument(text);
    case failure_kind::out_of_shared_memory: throw out_of_shared_memory(text);
    case failure_kind::peer: throw peer_error(text);
    case failure_kind::mismatch: throw mismatch(text);
    default: throw error(text);
  }
}

std::string describe_mpi(const char* routine, int code)
{
  char text[MPI_MAX_ERROR_STRING] = "";
  int length = 0;
  if (MPI_Error_string(code, text, &length) != MPI_SUCCESS) {
    length = std::snprintf(text, sizeof text, "error code %d", code);
  }
  return std::string(routine) + " failed: " + std::string(text, static_cast<std::size_t>(length));
}

void check_mpi(int code, const char* routine)
{
  if (code != MPI_SUCCESS) {
    throw mpi_error(routine, code);
  }
}

std::string count_of(std::size_t count, const char* singular)
{
  return std::to_string(count) + ' ' + singular + (count == 1 ? "" : "s");
}

std::string bytes_text(std::uint64_t bytes)
{
  static constexpr const char* units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < std::size(units)) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 ? "%.0f %s" : "%.4g %s", value, units[unit]);
  return text;
}

}  // namespace nodeshare
