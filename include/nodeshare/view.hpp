// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Looking at an array: a pointer, extents and strides.
#pragma once

#include <array>
#include <cstddef>
#include <iterator>
#include <limits>
#include <span>
#include <string>
#include <type_traits>

#include "nodeshare/error.hpp"

#if __has_include(<mdspan>) && __cplusplus > 202002L
#include <mdspan>
#endif

namespace nodeshare {

/// The order of elements in memory.
enum class layout : int {
  right,  ///< the last index is contiguous (C, NumPy's "C")
  left,   ///< the first index is contiguous (Fortran, NumPy's "F")
};

/// Local. Bytes of `extents` elements of `size` bytes; the largest value there is if they overflow.
template <std::size_t Dims>
[[nodiscard]] constexpr std::size_t bytes_of(const std::array<std::size_t, Dims>& extents, std::size_t size) noexcept
{
  constexpr std::size_t most = std::numeric_limits<std::size_t>::max();
  std::size_t out = size;
  for (const std::size_t extent : extents) {
    if (extent == 0) {
      return 0;
    }
    out = out > most / extent ? most : out * extent;
  }
  return out;
}

/// Local. "extents={3, 4}, 8 bytes each": a whole array in words.
template <std::size_t Dims>
[[nodiscard]] std::string text_of(const std::array<std::size_t, Dims>& extents, std::size_t size, layout order)
{
  std::string out = "extents={";
  for (const std::size_t extent : extents) {
    out += (out.back() == '{' ? "" : ", ") + std::to_string(extent);
  }
  return out + "}, " + std::to_string(size) + " bytes each" + (order == layout::left ? ", layout::left" : "");
}

/// A view of elements in `Dims` dimensions: a small value, trivially copyable, owning nothing. It is valid as long as
/// the array that it came from, or a copy of it, lives. All members are local.
template <class T, std::size_t Dims>
class array_view {
 public:
  using element_type = T;
  using value_type = std::remove_cv_t<T>;
  using extents_type = std::array<std::size_t, Dims>;

  array_view() = default;
  constexpr array_view(T* data, extents_type extents, extents_type strides) noexcept
      : data_(data), extents_(extents), strides_(strides)
  {
  }

  /// Strides, in elements, of a whole array.
  static constexpr extents_type strides_of(const extents_type& extents, layout order) noexcept
  {
    extents_type out{};
    std::size_t step = 1;
    for (std::size_t i = 0; i < Dims; ++i) {
      const std::size_t dim = order == layout::left ? i : Dims - 1 - i;
      out[dim] = step;
      step *= extents[dim];
    }
    return out;
  }

  /// Element at (i, j, …). Unchecked, as operator() of std::mdspan.
  template <class... Index>
    requires(sizeof...(Index) == Dims)
  constexpr T& operator()(Index... index) const noexcept
  {
    std::size_t offset = 0;
    std::size_t dim = 0;
    ((offset += static_cast<std::size_t>(index) * strides_[dim++]), ...);
    return data_[offset];
  }

  [[nodiscard]] constexpr T* data() const noexcept { return data_; }
  [[nodiscard]] constexpr std::size_t extent(std::size_t dim) const noexcept { return extents_[dim]; }
  [[nodiscard]] constexpr std::size_t stride(std::size_t dim) const noexcept { return strides_[dim]; }
  [[nodiscard]] constexpr const extents_type& extents() const noexcept { return extents_; }
  /// Number of elements; their bytes.
  [[nodiscard]] constexpr std::size_t size() const noexcept
  {
    std::size_t out = 1;
    for (const std::size_t extent : extents_) {
      out *= extent;
    }
    return out;
  }
  [[nodiscard]] constexpr std::size_t size_bytes() const noexcept { return size() * sizeof(T); }
  [[nodiscard]] constexpr bool empty() const noexcept { return size() == 0; }

  /// Whether the elements lie side by side, in either order.
  [[nodiscard]] constexpr bool contiguous() const noexcept
  {
    const auto same = [&](const extents_type& dense) {
      for (std::size_t dim = 0; dim < Dims; ++dim) {
        if (extents_[dim] != 1 && strides_[dim] != dense[dim]) {
          return false;
        }
      }
      return true;
    };
    return size() <= 1 || same(strides_of(extents_, layout::right)) || same(strides_of(extents_, layout::left));
  }

  /// All elements in memory order. Throws `invalid_argument` for a view with gaps (rows of a left layout).
  [[nodiscard]] std::span<T> span() const
  {
    if (!contiguous()) {
      throw invalid_argument("this view has gaps, so it is no span: iterate over it, or index it");
    }
    return {data_, size()};
  }

  /// Rows [first, last) of the first axis.
  [[nodiscard]] constexpr array_view rows(std::size_t first, std::size_t last) const noexcept
    requires(Dims > 0)
  {
    array_view out = *this;
    out.extents_[0] = last - first;
    out.data_ += first * strides_[0];
    return out;
  }

#if defined(__cpp_lib_mdspan)
  /// The same as a std::mdspan.
  [[nodiscard]] constexpr auto mdspan() const noexcept
  {
    using extents = std::dextents<std::size_t, Dims>;
    return std::mdspan<T, extents, std::layout_stride>(data_, {extents(extents_), strides_});
  }
#endif

  /// Visits every element once; the last axis runs fastest.
  class iterator {
   public:
    using iterator_category = std::forward_iterator_tag;
    using value_type = std::remove_cv_t<T>;
    using difference_type = std::ptrdiff_t;
    using pointer = T*;
    using reference = T&;

    iterator() = default;
    iterator(const array_view& of, std::size_t done) noexcept : of_(of), at_(of.data_), done_(done) {}

    T& operator*() const noexcept { return *at_; }
    T* operator->() const noexcept { return at_; }
    iterator& operator++() noexcept
    {
      ++done_;
      for (std::size_t dim = Dims; dim-- > 0;) {
        at_ += of_.strides_[dim];
        if (++index_[dim] < of_.extents_[dim] || dim == 0) {
          break;
        }
        at_ -= of_.strides_[dim] * of_.extents_[dim];
        index_[dim] = 0;
      }
      return *this;
    }
    iterator operator++(int) noexcept
    {
      iterator before = *this;
      ++*this;
      return before;
    }
    friend bool operator==(const iterator& a, const iterator& b) noexcept { return a.done_ == b.done_; }

   private:
    array_view of_;
    T* at_ = nullptr;
    extents_type index_{};
    std::size_t done_ = 0;
  };

  [[nodiscard]] iterator begin() const noexcept { return {*this, 0}; }
  [[nodiscard]] iterator end() const noexcept { return {*this, size()}; }

 private:
  T* data_ = nullptr;
  extents_type extents_{};
  extents_type strides_{};
};

}  // namespace nodeshare
