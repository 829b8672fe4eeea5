// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Python's slices of a list that ranks share.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "bindings.hpp"

namespace nodeshare::python {

/// A slice of a list, whose numbers Python code may give: they are asked for before the list is.
class slice_of {
 public:
  explicit slice_of(const py::slice& from)
  {
    if (PySlice_Unpack(from.ptr(), &start_, &stop_, &step_) != 0) {
      throw py::error_already_set();
    }
  }

  /// Of a list of so many.
  [[nodiscard]] std::vector<std::size_t> indices(std::size_t size) const
  {
    const auto [start, count] = within(size);
    std::vector<std::size_t> out(count);
    for (std::size_t i = 0; i < count; ++i) {
      out[i] = static_cast<std::size_t>(start + static_cast<py::ssize_t>(i) * step_);
    }
    return out;
  }

  /// What is left without these, as `list::arrangement` has it.
  [[nodiscard]] std::vector<std::int64_t> others(std::size_t size) const
  {
    auto order = all_of(size);
    for (const std::size_t i : indices(size)) {
      order[i] = -1;
    }
    order.erase(std::remove(order.begin(), order.end(), -1), order.end());
    return order;
  }

  /// What is there with `fresh` values in the place of these.
  [[nodiscard]] std::vector<std::int64_t> with(std::size_t fresh, std::size_t size) const
  {
    auto order = all_of(size);
    const auto [start, count] = within(size);
    if (step_ == 1) {
      auto place = order.begin() + start;
      place = order.erase(place, place + static_cast<py::ssize_t>(count));
      place = order.insert(place, fresh, 0);
      std::generate_n(place, fresh, [next = std::int64_t{0}]() mutable { return --next; });
      return order;
    }
    if (count != fresh) {
      throw py::value_error("attempt to assign sequence of size " + std::to_string(fresh) +
                            " to extended slice of size " + std::to_string(count));
    }
    for (std::int64_t next = 0; const std::size_t i : indices(size)) {
      order[i] = --next;
    }
    return order;
  }

  static std::vector<std::int64_t> all_of(std::size_t size)
  {
    std::vector<std::int64_t> out(size);
    std::iota(out.begin(), out.end(), 0);
    return out;
  }

 private:
  [[nodiscard]] std::pair<py::ssize_t, std::size_t> within(std::size_t size) const
  {
    py::ssize_t start = start_;
    py::ssize_t stop = stop_;
    const py::ssize_t count = PySlice_AdjustIndices(static_cast<py::ssize_t>(size), &start, &stop, step_);
    return {start, static_cast<std::size_t>(count)};
  }

  py::ssize_t start_ = 0, stop_ = 0, step_ = 0;
};

}  // namespace nodeshare::python
