// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/mutex.hpp"

#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <mutex>
#include <thread>

#include "meeting.hpp"
#include "support.hpp"

using namespace nodeshare;
using namespace nodeshare::test;
using namespace std::chrono_literals;

namespace {

using lock_of_node = nodeshare::mutex;

std::string my_name() { return rank_text(here().rank()) + here().host(); }

/// How a child that was forked ends; it must come to an end by itself.
int status_of(pid_t child)
{
  int status = -1;
  ::waitpid(child, &status, 0);
  return status;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(mutex)

BOOST_AUTO_TEST_CASE(one_rank_at_a_time_holds_it)
{
  constexpr int times = 5000;
  lock_of_node one(here());
  const shared_array<long> sum(here(), {2});  // not atomic: without the mutex additions are lost
  for (int i = 0; i < times; ++i) {
    const std::scoped_lock hold(one);
    sum.view()(0) = sum.view()(0) + 1;
    sum.view()(1) = sum.view()(1) + sum.view()(0);
  }
  barrier_of_node();
  const long all = long{times} * here().size();
  BOOST_CHECK_EQUAL(sum.view()(0), all);
  BOOST_CHECK_EQUAL(sum.view()(1), all * (all + 1) / 2);
}

BOOST_AUTO_TEST_CASE(threads_of_a_rank_exclude_each_other_too)
{
  constexpr int times = 5000;
  lock_of_node one(topology(MPI_COMM_SELF));
  long sum = 0;
  const auto add = [&] {
    for (int i = 0; i < times; ++i) {
      const std::scoped_lock hold(one);
      sum = sum + 1;
    }
  };
  std::thread other(add);
  add();
  other.join();
  BOOST_CHECK_EQUAL(sum, 2 * times);
}

BOOST_AUTO_TEST_CASE(it_says_who_holds_it)
{
  lock_of_node one(here());
  if (here().is_leader()) {
    one.lock();
  }
  barrier_of_node();
  BOOST_CHECK_EQUAL(one.owner(), rank_text(0) + here().host());
  BOOST_CHECK_EQUAL(one.try_lock(), false);
  barrier_of_node();
  if (here().is_leader()) {
    one.unlock();
  }
  barrier_of_node();
  BOOST_CHECK_EQUAL(one.owner(), "");
}

BOOST_AUTO_TEST_CASE(a_thread_that_would_wait_for_itself_throws)
{
  lock_of_node one(topology(MPI_COMM_SELF));
  one.lock();
  contains(thrown<error>([&] { one.lock(); }), "holds mutex() at mutex_test.cpp:");
  contains(thrown<error>([&] { (void)one.try_lock_for(1s); }), "already");
  BOOST_CHECK(!one.try_lock() && !one.try_lock_for(0s));
  one.unlock();
  BOOST_CHECK(one.try_lock());
  one.unlock();
}

BOOST_AUTO_TEST_CASE(only_its_owner_unlocks_it)
{
  lock_of_node one(here());
  contains(thrown<error>([&] { one.unlock(); }), "nobody does");
  barrier_of_node();
  if (here().is_leader()) {
    one.lock();
  }
  barrier_of_node();
  if (!here().is_leader()) {
    contains(thrown<error>([&] { one.unlock(); }), rank_text(0) + here().host() + " does");
  }
  barrier_of_node();
  BOOST_CHECK_EQUAL(one.owner(), rank_text(0) + here().host());
  barrier_of_node();
  if (here().is_leader()) {
    std::thread([&] { BOOST_CHECK_THROW(one.unlock(), error); }).join();
    one.unlock();
  }
}

BOOST_AUTO_TEST_CASE(a_wait_ends_when_its_time_is_over)
{
  lock_of_node one(topology(MPI_COMM_SELF));
  one.lock();
  std::thread([&] {
    const auto begin = std::chrono::steady_clock::now();
    BOOST_CHECK(!one.try_lock_for(60ms));
    BOOST_CHECK(std::chrono::steady_clock::now() - begin >= 60ms);
    std::unique_lock hold(one, std::defer_lock);
    BOOST_CHECK(!hold.try_lock_for(1ns));
  }).join();
  one.unlock();
  std::thread([&] {
    const std::unique_lock hold(one, 10s);
    BOOST_CHECK(hold.owns_lock());
  }).join();
}

BOOST_AUTO_TEST_CASE(a_signal_ends_a_wait_without_the_lock)
{
  lock_of_node one(topology(MPI_COMM_SELF));
  const replaced<bool (*)()> hook(nodeshare::hooks.interrupted, [] { return true; });
  one.lock();
  std::thread([&] { BOOST_CHECK_THROW(one.lock(), interrupted); }).join();
  BOOST_CHECK_EQUAL(one.owner(), rank_text(0) + here().host());
  one.unlock();
  one.lock();
  one.unlock();
}

BOOST_AUTO_TEST_CASE(a_thread_that_ended_while_it_held_it_leaves_it_to_nobody)
{
  lock_of_node one(topology(MPI_COMM_SELF));
  std::thread([&] { one.lock(); }).join();
  const std::string text = thrown<peer_error>([&] { one.lock(); });
  contains(text, "rank 0 on " + here().host() + " has ended while it held mutex() at mutex_test.cpp:");
  thrown<peer_error>([&] { (void)one.try_lock(); });
  thrown<peer_error>([&] { (void)one.try_lock_for(10ms); });
  thrown<peer_error>([&] { one.unlock(); });
}

BOOST_AUTO_TEST_CASE(an_owner_that_nobody_can_look_after_is_taken_to_live)
{
  lock_of_node one(topology(MPI_COMM_SELF));
  one.lock();
  std::thread([&] {
    rlimit before{};
    ::getrlimit(RLIMIT_NOFILE, &before);
    const rlimit none{0, before.rlim_max};
    // No more files can be opened, those in /proc neither; nor, before, those by which a sanitizer looks at a thread.
    ::setrlimit(RLIMIT_NOFILE, &none);
    BOOST_CHECK(!one.try_lock() && !one.try_lock_for(120ms));
    ::setrlimit(RLIMIT_NOFILE, &before);
  }).join();
  one.unlock();
}

BOOST_AUTO_TEST_CASE(asking_in_a_loop_hears_of_an_owner_that_has_ended)
{
  lock_of_node one(topology(MPI_COMM_SELF));
  std::thread([&] { one.lock(); }).join();
  const auto until = std::chrono::steady_clock::now() + 5s;
  bool told = false;
  while (!told && std::chrono::steady_clock::now() < until) {
    try {
      BOOST_CHECK(!one.try_lock());
    } catch (const peer_error&) {
      told = true;
    }
  }
  BOOST_CHECK(told);
}

BOOST_AUTO_TEST_CASE(a_forked_child_takes_part_and_its_death_is_heard_of)
{
  lock_of_node one(topology(MPI_COMM_SELF));
  one.lock();
  pid_t child = ::fork();
  if (child == 0) {
    bool right = false;
    try {
      one.unlock();  // its parent's
    } catch (const error&) {
      right = !one.try_lock();
    }
    ::_exit(right && one.owner() == rank_text(0) + here().host() ? 0 : 1);
  }
  BOOST_CHECK_EQUAL(status_of(child), 0);
  child = ::fork();
  if (child == 0) {
    one.lock();
    ::kill(::getpid(), SIGKILL);
  }
  one.unlock();
  while (one.owner().empty()) {
    std::this_thread::yield();
  }
  contains(one.owner(), "process " + std::to_string(child) + ", forked from rank 0 on ");
  (void)status_of(child);
  contains(thrown<peer_error>([&] { one.lock(); }), "process " + std::to_string(child));
}

BOOST_AUTO_TEST_CASE(a_rank_that_has_ended_its_part_leaves_it_to_nobody,
                     *boost::unit_test::precondition(a_crowded_node))
{
  own_comm comm(world().node(), world().rank());
  const topology t(comm);
  lock_of_node one(t);
  lock_of_node other(t);
  if (t.is_leader()) {
    one.lock();
  }
  barrier_of_node();
  if (t.is_leader()) {
    node::of(t)->meetings().end("exit", false);
  } else {
    contains(thrown<peer_error>([&] { one.lock(); }), rank_text(0) + t.host() + " has ended");
    other.lock();
    other.unlock();
  }
  barrier_of_node();
  comm.keep();
}

BOOST_AUTO_TEST_CASE(on_several_nodes_it_is_refused_by_all, *boost::unit_test::precondition(several_nodes))
{
  const std::string text = thrown<invalid_argument>([] { lock_of_node one(world()); });
  contains(text, "topology().node_comm");
  BOOST_CHECK(same_text(text));
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(it_works_when_the_communicator_is_gone)
{
  own_comm comm(world().node(), world().rank());
  lock_of_node one{topology(comm)};
  comm.free();
  for (int i = 0; i < 100; ++i) {
    const std::scoped_lock hold(one);
    BOOST_CHECK_EQUAL(one.owner(), my_name());
  }
  barrier_of_node();
}

BOOST_AUTO_TEST_CASE(it_may_lie_within_other_memory)
{
  const memory home = make(here(), 4096);
  lock_of_node first(home, 64);
  lock_of_node second(home, 64 + lock_of_node::size_bytes());
  if (here().is_leader()) {
    first.lock();
  }
  barrier_of_node();
  BOOST_CHECK_EQUAL(first.owner(), rank_text(0) + here().host());
  BOOST_CHECK_EQUAL(second.owner(), "");
  barrier_of_node();
  if (here().is_leader()) {
    first.unlock();
  }
}

BOOST_AUTO_TEST_SUITE_END()
