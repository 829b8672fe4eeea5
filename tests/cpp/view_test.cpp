// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/view.hpp"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <type_traits>
#include <vector>

#include "support.hpp"

using namespace nodeshare;
using namespace nodeshare::test;

using matrix = array_view<int, 2>;
using cube = array_view<int, 3>;

static_assert(std::is_trivially_copyable_v<matrix> && std::is_nothrow_default_constructible_v<matrix>);
static_assert(std::forward_iterator<matrix::iterator>);
static_assert(std::is_same_v<array_view<const int, 1>::value_type, int>);
static_assert(std::is_invocable_r_v<int&, matrix, int, int> && !std::is_invocable_v<matrix, int>);
static_assert(matrix::strides_of({3, 5}, layout::right) == std::array<std::size_t, 2>{5, 1});
static_assert(matrix::strides_of({3, 5}, layout::left) == std::array<std::size_t, 2>{1, 3});
static_assert(cube::strides_of({2, 3, 4}, layout::right) == std::array<std::size_t, 3>{12, 4, 1});
static_assert(cube::strides_of({2, 3, 4}, layout::left) == std::array<std::size_t, 3>{1, 2, 6});

namespace {

template <std::size_t Dims>
struct numbers {
  numbers(const std::array<std::size_t, Dims>& extents, layout order)
  {
    std::size_t size = 1;
    for (const std::size_t extent : extents) {
      size *= extent;
    }
    values.resize(size);
    std::iota(values.begin(), values.end(), 0);
    view = {values.data(), extents, array_view<int, Dims>::strides_of(extents, order)};
  }
  std::vector<int> values;
  array_view<int, Dims> view;
};

template <class View>
std::vector<int> visited(const View& view)
{
  return {view.begin(), view.end()};
}

}  // namespace

BOOST_AUTO_TEST_SUITE(view)

BOOST_AUTO_TEST_CASE(the_last_index_is_contiguous_in_right_layout)
{
  const numbers<3> of({2, 3, 4}, layout::right);
  BOOST_CHECK_EQUAL(of.view(0, 0, 3), 3);
  BOOST_CHECK_EQUAL(of.view(0, 2, 0), 8);
  BOOST_CHECK_EQUAL(of.view(1, 2, 3), 23);
}

BOOST_AUTO_TEST_CASE(the_first_index_is_contiguous_in_left_layout)
{
  const numbers<3> of({2, 3, 4}, layout::left);
  BOOST_CHECK_EQUAL(of.view(1, 0, 0), 1);
  BOOST_CHECK_EQUAL(of.view(0, 2, 0), 4);
  BOOST_CHECK_EQUAL(of.view(1, 2, 3), 23);
}

BOOST_AUTO_TEST_CASE(indexing_a_view_writes_to_the_array)
{
  numbers<2> of({3, 5}, layout::right);
  const auto view = of.view;
  view(2, 4) = 99;
  BOOST_CHECK_EQUAL(of.values.back(), 99);
}

BOOST_AUTO_TEST_CASE(a_view_tells_its_extents_strides_and_size)
{
  const numbers<2> of({3, 5}, layout::left);
  BOOST_CHECK_EQUAL(of.view.extent(0), 3);
  BOOST_CHECK_EQUAL(of.view.extent(1), 5);
  BOOST_CHECK_EQUAL(of.view.stride(0), 1);
  BOOST_CHECK_EQUAL(of.view.stride(1), 3);
  BOOST_CHECK_EQUAL(of.view.size(), 15);
  BOOST_CHECK_EQUAL(of.view.size_bytes(), 15 * sizeof(int));
  BOOST_CHECK(!of.view.empty());
}

BOOST_AUTO_TEST_CASE(iterating_runs_the_last_axis_fastest_in_right_layout)
{
  const numbers<3> of({2, 3, 4}, layout::right);
  BOOST_CHECK(visited(of.view) == of.values);
}

BOOST_AUTO_TEST_CASE(iterating_runs_the_last_axis_fastest_in_left_layout_too)
{
  const numbers<2> of({2, 3}, layout::left);
  BOOST_CHECK((visited(of.view) == std::vector<int>{0, 2, 4, 1, 3, 5}));
}

BOOST_AUTO_TEST_CASE(rows_of_right_layout_are_a_block)
{
  const numbers<2> of({4, 3}, layout::right);
  const auto rows = of.view.rows(1, 3);
  BOOST_CHECK((visited(rows) == std::vector<int>{3, 4, 5, 6, 7, 8}));
  BOOST_CHECK(rows.contiguous());
}

BOOST_AUTO_TEST_CASE(rows_of_left_layout_are_taken_from_every_column)
{
  const numbers<2> of({4, 3}, layout::left);
  const auto rows = of.view.rows(1, 3);
  BOOST_CHECK((visited(rows) == std::vector<int>{1, 5, 9, 2, 6, 10}));
  BOOST_CHECK_EQUAL(rows(1, 2), 10);
  BOOST_CHECK(!rows.contiguous());
}

BOOST_AUTO_TEST_CASE(rows_of_rows_count_from_the_first_ones)
{
  const numbers<1> of({10}, layout::right);
  BOOST_CHECK((visited(of.view.rows(2, 9).rows(1, 3)) == std::vector<int>{3, 4}));
}

BOOST_AUTO_TEST_CASE(a_span_of_a_whole_view_is_its_memory)
{
  for (const layout order : {layout::right, layout::left}) {
    const numbers<2> of({4, 3}, order);
    const auto span = of.view.span();
    BOOST_CHECK(span.data() == of.values.data());
    BOOST_CHECK_EQUAL(span.size(), 12);
  }
}

BOOST_AUTO_TEST_CASE(a_span_of_a_view_with_gaps_is_refused)
{
  const numbers<2> of({4, 3}, layout::left);
  BOOST_CHECK_THROW((void)of.view.rows(1, 3).span(), invalid_argument);
}

BOOST_AUTO_TEST_CASE(a_single_row_or_column_is_contiguous_where_its_elements_touch)
{
  BOOST_CHECK(numbers<2>({1, 7}, layout::left).view.contiguous());
  BOOST_CHECK(numbers<2>({7, 1}, layout::right).view.contiguous());
  BOOST_CHECK(!numbers<2>({3, 7}, layout::left).view.rows(1, 2).contiguous());
  BOOST_CHECK(numbers<2>({7, 1}, layout::left).view.rows(2, 5).contiguous());
}

BOOST_AUTO_TEST_CASE(an_empty_view_visits_nothing_and_has_an_empty_span)
{
  for (const layout order : {layout::right, layout::left}) {
    for (const std::array<std::size_t, 3>& extents : {std::array<std::size_t, 3>{0, 3, 4}, {2, 0, 4}, {2, 3, 0}}) {
      const cube view(nullptr, extents, cube::strides_of(extents, order));
      BOOST_CHECK(view.empty());
      BOOST_CHECK(view.begin() == view.end());
      BOOST_CHECK(view.span().empty());
    }
  }
  BOOST_CHECK(matrix().empty());
}

BOOST_AUTO_TEST_CASE(no_rows_of_a_full_view_are_empty)
{
  const numbers<2> of({4, 3}, layout::left);
  const auto none = of.view.rows(4, 4);
  BOOST_CHECK(none.empty());
  BOOST_CHECK(none.begin() == none.end());
  BOOST_CHECK(none.span().empty());
}

BOOST_AUTO_TEST_CASE(a_view_without_dimensions_is_one_element)
{
  int value = 3;
  const array_view<int, 0> one(&value, {}, {});
  one() = 5;
  BOOST_CHECK_EQUAL(value, 5);
  BOOST_CHECK_EQUAL(one.size(), 1);
  BOOST_CHECK_EQUAL(std::distance(one.begin(), one.end()), 1);
}

BOOST_AUTO_TEST_CASE(standard_algorithms_take_a_view)
{
  numbers<2> of({4, 3}, layout::left);
  BOOST_CHECK_EQUAL(std::accumulate(of.view.begin(), of.view.end(), 0), 66);
  std::ranges::fill(of.view, 7);
  BOOST_CHECK_EQUAL(std::ranges::count(of.values, 7), 12);
  auto at = of.view.begin();
  *at++ = 1;
  BOOST_CHECK_EQUAL(*at, 7);
  BOOST_CHECK_EQUAL(of.values[0], 1);
}

BOOST_AUTO_TEST_SUITE_END()
