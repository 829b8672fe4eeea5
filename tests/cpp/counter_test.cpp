// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/counter.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "support.hpp"

using namespace nodeshare;
using namespace nodeshare::test;

namespace {

using number = nodeshare::counter;

}  // namespace

BOOST_AUTO_TEST_SUITE(counter)

BOOST_AUTO_TEST_CASE(no_number_is_given_twice_and_none_is_lost)
{
  constexpr std::size_t times = 20000;
  number one(here());
  std::vector<std::int64_t> mine(times);
  std::ranges::generate(mine, [&] { return one.add(); });
  BOOST_CHECK(std::ranges::is_sorted(mine));
  std::vector<std::int64_t> all(times * static_cast<std::size_t>(here().size()));
  MPI_Allgather(mine.data(), times, MPI_INT64_T, all.data(), times, MPI_INT64_T, here().comm());
  std::ranges::sort(all);
  std::vector<std::int64_t> expected(all.size());
  std::iota(expected.begin(), expected.end(), 0);
  BOOST_CHECK(all == expected);
  BOOST_CHECK_EQUAL(one.value(), static_cast<std::int64_t>(all.size()));
}

BOOST_AUTO_TEST_CASE(any_number_may_be_added)
{
  number one(topology(MPI_COMM_SELF));
  BOOST_CHECK_EQUAL(one.add(7), 0);
  BOOST_CHECK_EQUAL(one.add(-10), 7);
  BOOST_CHECK_EQUAL(one.add(0), -3);
  BOOST_CHECK_EQUAL(one.value(), -3);
}

BOOST_AUTO_TEST_CASE(it_wraps)
{
  constexpr auto most = std::numeric_limits<std::int64_t>::max();
  number one(topology(MPI_COMM_SELF));
  one.add(most);
  BOOST_CHECK_EQUAL(one.add(), most);
  BOOST_CHECK_EQUAL(one.value(), std::numeric_limits<std::int64_t>::min());
}

BOOST_AUTO_TEST_CASE(on_several_nodes_it_is_refused_by_all, *boost::unit_test::precondition(several_nodes))
{
  contains(thrown<invalid_argument>([] { number one(world()); }), "topology().node_comm");
  check_still_works(world());
}

BOOST_AUTO_TEST_SUITE_END()
