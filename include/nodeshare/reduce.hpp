// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Arrays of all ranks, or the copies of all nodes, combined element by element.
#pragma once

#include <mpi.h>

#include <complex>
#include <concepts>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <type_traits>

#include "nodeshare/node.hpp"
#include "nodeshare/segment.hpp"

namespace nodeshare {

/// How two elements become one (MPI-3.1, 5.9.2). `min` and `max` of a NaN are NaN, as in NumPy.
enum class operation : int { sum, prod, min, max, band, bor, bxor, land, lor, lxor };

/// What elements are.
enum class element : int {
  boolean,
  int8,
  int16,
  int32,
  int64,
  uint8,
  uint16,
  uint32,
  uint64,
  float16,  ///< IEEE binary16, combined in float32 and rounded each time
  float32,
  float64,
  long_double,
  complex64,
  complex128,
  complex_long_double,
};

/// Local.
[[nodiscard]] std::size_t bytes_of(element type) noexcept;

/// Local. The element that `T` is.
template <class T>
[[nodiscard]] constexpr element element_of() noexcept
{
  if constexpr (std::same_as<T, bool>) {
    return element::boolean;
  } else if constexpr (std::integral<T>) {
    constexpr int log2 = sizeof(T) == 1 ? 0 : sizeof(T) == 2 ? 1 : sizeof(T) == 4 ? 2 : 3;
    return static_cast<element>(static_cast<int>(std::is_signed_v<T> ? element::int8 : element::uint8) + log2);
  } else if constexpr (std::same_as<T, float>) {
    return element::float32;
  } else if constexpr (std::same_as<T, double>) {
    return element::float64;
  } else if constexpr (std::same_as<T, long double>) {
    return element::long_double;
  } else if constexpr (std::same_as<T, std::complex<float>>) {
    return element::complex64;
  } else if constexpr (std::same_as<T, std::complex<double>>) {
    return element::complex128;
  } else {
    static_assert(std::same_as<T, std::complex<long double>>, "only numbers and bool can be combined");
    return element::complex_long_double;
  }
}

/// An operation on elements of a type.
struct reduction {
  element of;
  operation by = operation::sum;
  MPI_Op own = MPI_OP_NULL;  ///< instead of `by`, if `made_by_user`
  bool made_by_user = false;

  reduction(element type, operation how) noexcept : of(type), by(how) {}
  /// A predefined handle of MPI's (`MPI_SUM` …), or one made by `MPI_Op_create`.
  reduction(element type, MPI_Op how) noexcept;
};

/// Elements side by side in a segment.
struct element_block {
  std::size_t offset = 0;  ///< bytes from the segment's beginning to the first
  std::size_t count = 0;
};

/// What one rank brings, in the order of the array's memory: either `data`, or `put`, which is asked for elements
/// [first, first + count) in turn and writes them to `to`. What `put` throws, the rank throws when the call has ended.
struct contribution {
  std::span<const std::byte> data;
  std::function<void(std::size_t first, std::size_t count, std::byte* to)> put;
};

/// Collective over the communicator. Every rank's private elements, combined, into the same place on every node; what
/// was there is overwritten. `mine` may be that place itself, but not overlap it otherwise.
///
/// The ranks of a node combine theirs in the order of the ranks, the nodes what came of it in the order of the nodes:
/// the same bits on every node, and in every run on as many ranks and nodes. (`MPI_Allreduce` is only advised to give
/// that: MPI-3.1, 5.9.1.) No rank takes more private memory than a few MiB.
///
/// Throws `invalid_argument` when the operation is not for these elements, when one that does not commute meets nodes
/// whose ranks are not consecutive, or when `mine.data` has another size or overlaps; `out_of_shared_memory`,
/// `mismatch`, `peer_error`, `mpi_error`; then the elements are unspecified.
void allreduce(const call& what, const std::shared_ptr<segment>& memory, const element_block& where,
               const reduction& how, const contribution& mine);

/// Collective over the communicator. Each element from the copies of all nodes, combined in the order of the nodes, on
/// every node. Throws like `allreduce`.
void allreduce_copies(const call& what, const std::shared_ptr<segment>& memory, const element_block& where,
                      const reduction& how);

/// Local. "sum", or what a user's operation is called.
[[nodiscard]] const char* name_of(const reduction& how) noexcept;

}  // namespace nodeshare
