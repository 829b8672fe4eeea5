// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/hooks.hpp"

#include <atomic>
#include <chrono>
#include <mutex>
#include <thread>
#include <utility>

#include "support.hpp"

using namespace nodeshare;
using namespace nodeshare::test;

namespace {

std::atomic<bool> signal_is_due{false};
bool take_signal() { return signal_is_due.exchange(false); }

/// Collective over the job. One rank's wait is interrupted while the others of its node have not come yet; they come
/// afterwards. Returns what this rank threw: "interrupted", "peer_error", …
std::string with_one_interrupted(int interrupted_rank, const std::function<void()>& collective)
{
  const bool mine = world().rank() == interrupted_rank;
  const bool late = !mine && world().node() == world().node_of(interrupted_rank);
  const replaced hook(nodeshare::hooks.interrupted, &take_signal);
  signal_is_due = mine;
  char word = 0;
  if (late) {
    MPI_Recv(&word, 1, MPI_CHAR, interrupted_rank, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
  }
  std::string out = "nothing";
  try {
    collective();
  } catch (const interrupted&) {
    out = "interrupted";
  } catch (const peer_error& why) {
    out = "peer_error";
    contains(why.what(), "rank " + std::to_string(interrupted_rank));
  } catch (const error& why) {
    out = why.what();
  }
  for (const int rank : world().ranks_on(world().node())) {
    if (mine && rank != interrupted_rank) {
      MPI_Send(&word, 1, MPI_CHAR, rank, 0, MPI_COMM_WORLD);
    }
  }
  signal_is_due = false;
  return out;
}

/// A rank whose node has others, so that it has somebody to wait for.
int rank_in_company(bool leader)
{
  const auto ranks = world().ranks_on(*crowded_node());
  return leader ? ranks.front() : ranks.back();
}

}  // namespace

BOOST_AUTO_TEST_SUITE(hooks)

BOOST_AUTO_TEST_CASE(a_rank_interrupted_in_sync_throws_interrupted_and_its_node_peer_error,
                     *boost::unit_test::precondition(a_crowded_node))
{
  for (const bool leader : {true, false}) {
    const int who = rank_in_company(leader);
    const own_comm comm;
    const nodeshare::topology t(comm);
    shared_array<int> a(t, {10});
    const std::string got = with_one_interrupted(who, [&] { a.sync(); });
    const bool same_node = world().node() == world().node_of(who);
    BOOST_CHECK_EQUAL(got, !same_node ? "nothing" : world().rank() == who ? "interrupted" : "peer_error");
    check_still_works(t);
  }
}

BOOST_AUTO_TEST_CASE(a_rank_interrupted_before_its_node_has_come_throws_interrupted_and_all_others_peer_error,
                     *boost::unit_test::precondition(a_crowded_node))
{
  for (const bool leader : {true, false}) {
    const int who = rank_in_company(leader);
    const own_comm comm;
    const nodeshare::topology t(comm);
    const auto home = node::of(t);
    const std::string got = with_one_interrupted(who, [&] { home->agree(call("together", "")); });
    BOOST_CHECK_EQUAL(got, world().rank() == who ? "interrupted" : "peer_error");
    check_still_works(t);
  }
}

BOOST_AUTO_TEST_CASE(creating_after_an_interrupted_creation_works, *boost::unit_test::precondition(a_crowded_node))
{
  const own_comm comm;
  const nodeshare::topology t(comm);
  (void)node::of(t);
  const int who = rank_in_company(true);
  const std::string got = with_one_interrupted(who, [&] { shared_array<int> a(t, {10}); });
  BOOST_CHECK_EQUAL(got, world().rank() == who ? "interrupted" : "peer_error");
  check_still_works(t);
}

BOOST_AUTO_TEST_CASE(a_hook_that_says_no_disturbs_nothing)
{
  const replaced<bool (*)()> hook(nodeshare::hooks.interrupted, [] { return false; });
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(messages_name_the_place_that_the_hook_tells, *boost::unit_test::precondition(several_ranks))
{
  const replaced<std::string (*)()> hook(nodeshare::hooks.where, [] { return std::string("script.py:7"); });
  const auto home = node::of(world());
  const std::string text =
      thrown<mismatch>([&] { home->agree(call("zeros", world().rank() == 0 ? "shape=(3,)" : "shape=(4,)")); });
  contains(text, "zeros(shape=(3,)) at script.py:7");
  contains(text, "zeros(shape=(4,)) at script.py:7");
}

BOOST_AUTO_TEST_CASE(messages_name_the_source_where_the_hook_tells_nothing,
                     *boost::unit_test::precondition(several_ranks))
{
  const replaced<std::string (*)()> hook(nodeshare::hooks.where, [] { return std::string(); });
  const auto home = node::of(world());
  const std::string text = thrown<mismatch>([&] { home->agree(call("zeros", world().rank() == 0 ? "a" : "b")); });
  contains(text, "zeros(a) at hooks_test.cpp:");
}

BOOST_AUTO_TEST_CASE(a_rank_interrupted_while_it_waits_for_another_node_leaves_nobody_waiting,
                     *boost::unit_test::precondition(several_nodes))
{
  const own_comm comm;
  const nodeshare::topology t(comm);
  const auto home = node::of(t);
  const bool mine = t.node() == 0;
  const replaced hook(nodeshare::hooks.interrupted, &take_signal);
  signal_is_due = t.rank() == 0;
  const MPI_Comm everybody = MPI_COMM_WORLD;
  if (!mine) {
    MPI_Barrier(everybody);  // comes when node 0 has left
  }
  bool threw = false;
  try {
    home->agree(call("together", ""));
  } catch (const error&) {
    threw = true;
  }
  if (mine) {
    MPI_Barrier(everybody);
  }
  BOOST_CHECK_MESSAGE(threw, "this rank returned from a collective in which rank 0 was interrupted");
  BOOST_CHECK_THROW(home->agree(call("together", "")), nodeshare::error);  // on all again, or on none: nobody hangs
  BOOST_CHECK_NO_THROW(home->meet(call("sync", "")));
}

/// As two threads of Python: one waits within a call for a second lock, and asks for signals; the other one has the
/// GIL.
BOOST_AUTO_TEST_CASE(a_thread_that_waits_holds_nothing_that_another_needs)
{
  static std::mutex interpreter;
  static thread_local bool has_it = false;
  const replaced<void* (*)()> let_go(nodeshare::hooks.let_go, []() -> void* {
    if (!std::exchange(has_it, false)) {
      return nullptr;
    }
    interpreter.unlock();
    return &interpreter;
  });
  const replaced<void (*)(void*)> take_back(nodeshare::hooks.take_back, [](void*) {
    interpreter.lock();
    has_it = true;
  });
  const replaced<bool (*)()> asks(nodeshare::hooks.interrupted, [] {
    const std::scoped_lock hold(interpreter);
    return false;
  });
  const topology alone(MPI_COMM_SELF);
  nodeshare::mutex first(alone), second(alone);
  second.lock();
  std::thread within([&] {
    const std::scoped_lock one(first);
    const std::scoped_lock two(second);
  });
  while (!first.locked()) {
    std::this_thread::yield();
  }
  std::thread with_it([&] {
    const std::scoped_lock hold(interpreter);
    has_it = true;
    {
      const std::scoped_lock too(first);
      BOOST_CHECK(has_it);
    }
    has_it = false;
  });
  std::this_thread::sleep_for(std::chrono::milliseconds(200));  // both wait, and have asked for signals
  second.unlock();
  within.join();
  with_it.join();
}

BOOST_AUTO_TEST_SUITE_END()
