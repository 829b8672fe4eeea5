// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Arrays in NumPy's .npy files.
#pragma once

#include <mpi.h>

#include <algorithm>
#include <array>
#include <bit>
#include <complex>
#include <cstddef>
#include <memory>
#include <source_location>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "nodeshare/segment.hpp"
#include "nodeshare/shared_array.hpp"
#include "nodeshare/topology.hpp"
#include "nodeshare/view.hpp"

namespace nodeshare {

/// What the header of a .npy file says. Source: numpy.lib.format, "NPY format".
struct npy_header {
  std::string type;                  ///< NumPy's name of the elements' type: "<f8"
  std::vector<std::size_t> extents;  ///< in elements; none: a single element
  nodeshare::layout layout = nodeshare::layout::right;
};

/// An array that was read.
struct npy_array {
  npy_header header;
  std::shared_ptr<segment> memory;
};

/// NumPy's name of an arithmetic or complex type, in this machine's byte order: "<f8", "|u1", "<c16".
template <class T>
[[nodiscard]] std::string npy_type()
{
  constexpr bool complex = std::is_same_v<T, std::complex<float>> || std::is_same_v<T, std::complex<double>> ||
                           std::is_same_v<T, std::complex<long double>>;
  static_assert(std::is_arithmetic_v<T> || complex, ".npy files hold numbers here: arithmetic and complex types");
  char kind = std::is_signed_v<T> ? 'i' : 'u';
  if constexpr (complex || std::is_floating_point_v<T> || std::is_same_v<T, bool>) {
    kind = complex ? 'c' : std::is_same_v<T, bool> ? 'b' : 'f';
  }
  const char end = sizeof(T) == 1 ? '|' : std::endian::native == std::endian::little ? '<' : '>';
  return std::string{end, kind} + std::to_string(sizeof(T));
}

/// Collective over the communicator. What `load` does, its type and number of dimensions by their names.
[[nodiscard]] npy_array load_npy(const std::string& path, const topology& where, const std::string& type,
                                 std::size_t dims, std::source_location place = std::source_location::current());

/// Collective over the communicator. What `save` does, of memory that holds what `header` says.
void save_npy(const std::string& path, const std::shared_ptr<segment>& memory, const npy_header& header,
              std::source_location place = std::source_location::current());

/// Collective over the communicator. A .npy file (format 1.0 to 3.0) as one array per node.
///
/// Every rank reads its share, in parallel, straight into place; each byte is read once in the whole job and goes to
/// the other nodes over the lanes. Throws `file_error` on the ranks that can't read it; `invalid_argument` where it is
/// no .npy file, is shorter than its header says, or holds another type (the other byte order, too) or number of
/// dimensions; `error` where it is written to meanwhile; `mismatch` when ranks see different files; `peer_error`
/// elsewhere.
template <class T, std::size_t Dims = 1>
[[nodiscard]] shared_array<T, Dims> load(const std::string& path, const topology& where,
                                         std::source_location place = std::source_location::current())
{
  npy_array found = load_npy(path, where, npy_type<T>(), Dims, place);
  std::array<std::size_t, Dims> extents;
  std::copy_n(found.header.extents.begin(), Dims, extents.begin());
  return shared_array<T, Dims>(where, extents, found.header.layout, std::move(found.memory));
}
template <class T, std::size_t Dims = 1>
[[nodiscard]] shared_array<T, Dims> load(const std::string& path, MPI_Comm comm,
                                         std::source_location place = std::source_location::current())
{
  return load<T, Dims>(path, topology(comm, place), place);
}

/// Collective over the communicator. Node 0's array as a .npy file, which NumPy reads; ".npy" is appended to a name
/// that does not end so. The node's ranks write it in parallel, and it takes its name when it is whole: see
/// `write_file`.
template <class T, std::size_t Dims>
void save(const std::string& path, const shared_array<T, Dims>& array,
          std::source_location place = std::source_location::current())
{
  const auto& extents = array.extents();
  save_npy(path, array.memory(), {npy_type<T>(), {extents.begin(), extents.end()}, array.order()}, place);
}

}  // namespace nodeshare
