// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/barrier.hpp"

#include <chrono>

#include "support.hpp"

using namespace nodeshare;
using namespace nodeshare::test;
using namespace std::chrono_literals;

namespace {

using barrier_of_ranks = nodeshare::barrier;

}  // namespace

BOOST_AUTO_TEST_SUITE(barrier)

BOOST_AUTO_TEST_CASE(what_was_written_before_it_is_seen_after_it)
{
  const barrier_of_ranks all(here());
  const shared_array<int> a(here(), {static_cast<std::size_t>(here().size())});
  int wrong = 0;
  for (int round = 1; round <= 300; ++round) {
    a.view()(here().rank()) = round;
    all.wait();
    for (const int value : a.view()) {
      wrong += value != round;
    }
    all.wait();
  }
  BOOST_CHECK_EQUAL(wrong, 0);
}

BOOST_AUTO_TEST_CASE(two_barriers_are_not_mistaken_for_each_other, *boost::unit_test::precondition(a_crowded_node))
{
  const barrier_of_ranks one(here());
  const barrier_of_ranks other(here());
  if (here().size() > 1) {
    contains(thrown<mismatch>([&] { (here().rank() == 0 ? one : other).wait(); }), "barrier.wait(barrier() at ");
  }
  one.wait();
}

BOOST_AUTO_TEST_CASE(a_rank_whose_time_is_over_throws_and_the_others_hear_of_it,
                     *boost::unit_test::precondition(a_crowded_node))
{
  const barrier_of_ranks all(here());
  if (here().size() > 1) {
    if (here().rank() == 0) {
      const std::string text = thrown<error>([&] { all.wait_for(20ms); });
      contains(text, "missing: ");
      contains(text, rank_text(1) + here().host());
    }
    barrier_of_node();
    if (here().rank() != 0) {
      contains(thrown<peer_error>([&] { all.wait(); }), rank_text(0) + here().host() + " ran out of time");
    }
  }
  all.wait_for(10s);
  check_still_works(here());
}

BOOST_AUTO_TEST_CASE(with_no_time_at_all_it_throws_unless_all_have_come)
{
  const barrier_of_ranks alone(topology(MPI_COMM_SELF));
  alone.wait_for(0s);
  alone.wait_for(-1s);
}

BOOST_AUTO_TEST_CASE(on_several_nodes_it_is_refused_by_all, *boost::unit_test::precondition(several_nodes))
{
  contains(thrown<invalid_argument>([] { barrier_of_ranks one(world()); }), "topology().node_comm");
  check_still_works(world());
}

BOOST_AUTO_TEST_SUITE_END()
