// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Elements of two places into a third, for every operation and element.
#pragma once

#include <cstddef>
#include <span>

#include "failure.hpp"
#include "nodeshare/reduce.hpp"

namespace nodeshare {

/// One reduction, ready to be used. Local.
class combiner {
 public:
  /// What stands against it leaves the combiner useless, and is told by `objection`.
  explicit combiner(const reduction& how) noexcept;

  [[nodiscard]] const failure& objection() const noexcept { return objection_; }
  [[nodiscard]] bool commutes() const noexcept { return commutes_; }
  [[nodiscard]] std::size_t element_bytes() const noexcept { return element_bytes_; }

  /// `count` elements of each of `from`, combined in that order, to `to`, which may be one of them. Throws `mpi_error`.
  /// @param past_cache  what is written is more than the cache holds
  void fold(std::span<const std::byte* const> from, std::size_t count, std::byte* to, bool past_cache) const;

 private:
  using kernel = void (*)(const std::byte* left, const std::byte* right, std::byte* out, std::size_t count);

  void combine(const std::byte* left, const std::byte* right, std::byte* out, std::size_t count) const;

  kernel kernel_ = nullptr;
  MPI_Op own_ = MPI_OP_NULL;
  MPI_Datatype type_ = MPI_DATATYPE_NULL;
  bool commutes_ = true;
  std::size_t element_bytes_;
  failure objection_;
};

}  // namespace nodeshare
