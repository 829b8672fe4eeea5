// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/add.hpp"

#include <complex>
#include <cstdint>
#include <limits>

#include "support.hpp"

using namespace nodeshare;
using namespace nodeshare::test;

namespace {

template <class T>
using array_of = nodeshare::shared_array<T, 1>;

/// Collective over the node. Each of its ranks adds `value` as often; `sum` of all ranks is what comes of it.
template <class T>
void check_sum(T value, T sum)
{
  const array_of<T> a(world(), {3});
  for (int round = 0; round < 1000; ++round) {
    add(a.view()(1), value);
  }
  a.sync();
  BOOST_CHECK_EQUAL(a.view()(1), sum);
  BOOST_CHECK_EQUAL(a.view()(0), T{});
  BOOST_CHECK_EQUAL(a.view()(2), T{});
}

}  // namespace

BOOST_AUTO_TEST_SUITE(add)

BOOST_AUTO_TEST_CASE(all_ranks_of_a_node_add_to_one_element_and_nothing_is_lost)
{
  const int times = 1000 * world().node_size();
  check_sum<std::int8_t>(3, static_cast<std::int8_t>(3 * times));  // whole numbers wrap around
  check_sum<std::uint8_t>(3, static_cast<std::uint8_t>(3 * times));
  check_sum<std::int16_t>(-2, static_cast<std::int16_t>(-2 * times));
  check_sum<std::uint16_t>(2, static_cast<std::uint16_t>(2 * times));
  check_sum<std::int32_t>(-5, -5 * times);
  check_sum<std::uint32_t>(5, 5U * static_cast<unsigned>(times));
  check_sum<std::int64_t>(std::int64_t{1} << 40, times * (std::int64_t{1} << 40));
  check_sum<std::uint64_t>(std::uint64_t{1} << 40, static_cast<std::uint64_t>(times) << 40);
  check_sum<float>(0.5F, 0.5F * static_cast<float>(times));
  check_sum<double>(-0.25, -0.25 * times);
  check_sum<std::complex<float>>({1, -2}, {static_cast<float>(times), -2 * static_cast<float>(times)});
  check_sum<std::complex<double>>({1, -2}, {1. * times, -2. * times});
}

BOOST_AUTO_TEST_CASE(arrays_find_the_element_by_its_indices)
{
  const nodeshare::shared_array<double, 2> a(world(), {3, 2}, {.layout = layout::left});
  const array_of<std::complex<float>> b(world(), {2});
  for (int round = 0; round < 1000; ++round) {
    a.add({2, 1}, 0.5);
    b.add({1}, {1, -2});
  }
  a.sync();
  const auto ranks = static_cast<float>(world().node_size());
  BOOST_CHECK_EQUAL(a.view()(2, 1), 500 * ranks);
  BOOST_CHECK_EQUAL(a.view()(2, 0), 0);
  BOOST_CHECK_EQUAL(b.view()(1), std::complex<float>(1000 * ranks, -2000 * ranks));
  BOOST_CHECK_EQUAL(b.view()(0), std::complex<float>(0));
}

BOOST_AUTO_TEST_SUITE_END()
