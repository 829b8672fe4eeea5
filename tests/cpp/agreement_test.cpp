// SPDX-License-Identifier: BSD-3-Clause
// What all ranks throw when one of them calls something else, fails or ends.
#include "meeting.hpp"
#include "support.hpp"

using namespace nodeshare;
using namespace nodeshare::test;

BOOST_AUTO_TEST_SUITE(agreement)

BOOST_AUTO_TEST_CASE(different_calls_on_a_node_are_named_with_their_ranks_on_every_rank,
                     *boost::unit_test::precondition(a_crowded_node))
{
  const auto home = node::of(world());
  if (world().node() == *crowded_node()) {
    const auto ranks = world().ranks_on(world().node());
    const bool odd = world().rank() == ranks.back();
    const std::string text = thrown<mismatch>([&] { home->meet(odd ? call("sync", "b") : call("sync", "a")); });
    contains(text, rank_text(ranks.front()));
    contains(text, rank_text(ranks.back()));
    contains(text, "called sync(a) at agreement_test.cpp:");
    contains(text, "called sync(b) at agreement_test.cpp:");
    BOOST_CHECK(same_text(text, world().node_comm()));
  } else {
    (void)world().node_comm();
  }
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(different_calls_over_the_communicator_are_named_with_their_ranks_on_every_rank,
                     *boost::unit_test::precondition(several_ranks))
{
  const auto home = node::of(world());
  for (const int odd : {0, world().size() - 1}) {
    const std::string text =
        thrown<mismatch>([&] { home->agree(world().rank() == odd ? call("zeros", "3") : call("bcast", "a")); });
    for (int rank = 0; rank < world().size(); ++rank) {
      contains(text, rank_text(rank));
    }
    contains(text, "called zeros(3) at agreement_test.cpp:");
    contains(text, "called bcast(a) at agreement_test.cpp:");
    BOOST_CHECK(same_text(text));
  }
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(a_different_number_is_a_different_call, *boost::unit_test::precondition(several_ranks))
{
  const auto home = node::of(world());
  BOOST_CHECK_THROW(home->agree(call("sync", world().rank() == 0 ? 1u : 2u, "an array")), mismatch);
  BOOST_CHECK_NO_THROW(home->agree(call("sync", 1u, world().rank() == 0 ? "an array" : "the array")));
}

BOOST_AUTO_TEST_CASE(a_call_over_the_node_against_one_over_the_communicator_is_a_mismatch_everywhere,
                     *boost::unit_test::precondition(a_crowded_node))
{
  const shared_array<int> a(world(), {10});
  const auto ranks = world().ranks_on(*crowded_node());
  for (const int odd : {ranks.front(), ranks.back()}) {
    const std::string text = thrown<mismatch>([&] { world().rank() == odd ? a.sync() : a.bcast(0); });
    contains(text, rank_text(odd));
    contains(text, "called sync(");
    contains(text, "called bcast(root=0");
    BOOST_CHECK(same_text(text));
  }
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(a_rank_that_failed_is_named_to_the_others_and_throws_nothing_itself)
{
  const auto home = node::of(world());
  for (const int failing : {0, world().size() - 1}) {
    if (world().rank() == failing) {
      BOOST_CHECK_NO_THROW(home->fail(call("array", "x"), "ValueError: no such thing"));
    } else {
      const std::string text = thrown<peer_error>([&] { home->agree(call("array", "x")); });
      contains(text, rank_text(failing));
      contains(text, "array(x)");
      contains(text, "ValueError: no such thing");
    }
  }
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(a_rank_that_failed_answers_also_those_that_call_something_else)
{
  const auto home = node::of(world());
  if (world().rank() == 0) {
    BOOST_CHECK_NO_THROW(home->fail(call("array", "x"), "no such thing"));
  } else {
    contains(thrown<peer_error>([&] { shared_array<int> a(world(), {10}); }), "no such thing");
  }
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(when_all_ranks_fail_each_keeps_its_own_error)
{
  const auto home = node::of(world());
  BOOST_CHECK_NO_THROW(home->fail(call("array", "x"), "mine: " + std::to_string(world().rank())));
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(a_rank_that_ended_is_named_to_all_others, *boost::unit_test::precondition(several_ranks))
{
  for (const int ending : {0, world().size() - 1}) {
    own_comm comm;
    const auto home = node::of(topology(comm));
    comm.keep();
    if (world().rank() == ending) {
      home->meetings().end("left by the test", false);
      continue;
    }
    for (int attempt = 0; attempt < 2; ++attempt) {  // the second must not wait either
      std::string text;
      try {
        home->agree(call("together", ""));
      } catch (const error& why) {
        text = why.what();
      }
      contains(text, rank_text(ending));
      contains(text, "left by the test");
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
