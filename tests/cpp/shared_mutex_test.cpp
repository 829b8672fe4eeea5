// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/shared_mutex.hpp"

#include <array>
#include <chrono>
#include <mutex>
#include <shared_mutex>
#include <thread>
#include <vector>

#include "support.hpp"

using namespace nodeshare;
using namespace nodeshare::test;
using namespace std::chrono_literals;

namespace {

using lock_of_node = nodeshare::shared_mutex;

}  // namespace

BOOST_AUTO_TEST_SUITE(shared_mutex)

BOOST_AUTO_TEST_CASE(readers_never_see_half_of_what_a_writer_writes)
{
  constexpr int times = 2000;
  lock_of_node one(here());
  const shared_array<long> pair(here(), {16});  // in different cache lines; not atomic
  long& first = pair.view()(0);
  long& second = pair.view()(15);
  int torn = 0;
  for (int i = 0; i < times; ++i) {
    if (i % 4 == here().rank() % 4) {
      const std::scoped_lock hold(one);
      first = first + 1;
      second = second + 1;
    } else {
      const std::shared_lock hold(one);
      torn += first != second;
    }
  }
  barrier_of_node();
  BOOST_CHECK_EQUAL(torn, 0);
  BOOST_CHECK_EQUAL(first, long{times} / 4 * here().size());
  BOOST_CHECK_EQUAL(second, first);
}

BOOST_AUTO_TEST_CASE(all_may_read_at_the_same_time)
{
  lock_of_node one(here());
  one.lock_shared();
  barrier_of_node();
  for (int rank = 0; rank < here().size(); ++rank) {
    contains(one.readers(), rank_text(rank) + here().host());
  }
  BOOST_CHECK_EQUAL(one.writer(), "");
  barrier_of_node();
  if (here().is_leader()) {
    std::thread([&] {
      BOOST_CHECK(!one.try_lock());
      BOOST_CHECK(!one.try_lock_for(5ms));
      const std::shared_lock hold(one, std::try_to_lock);
      BOOST_CHECK(hold.owns_lock());
    }).join();
  }
  barrier_of_node();
  one.unlock_shared();
  barrier_of_node();
  BOOST_CHECK_EQUAL(one.readers(), "");
}

BOOST_AUTO_TEST_CASE(more_threads_may_read_than_there_are_places)
{
  lock_of_node one(topology(MPI_COMM_SELF));
  std::atomic<int> read{0};
  std::vector<std::thread> all;
  for (int i = 0; i < 100; ++i) {
    all.emplace_back([&] {
      for (int round = 0; round < 20; ++round) {
        const std::shared_lock hold(one);
        ++read;
        std::this_thread::yield();
      }
    });
  }
  for (auto& each : all) {
    each.join();
  }
  BOOST_CHECK_EQUAL(read, 2000);
  BOOST_CHECK(one.try_lock());
  one.unlock();
}

BOOST_AUTO_TEST_CASE(a_writer_shuts_all_out)
{
  lock_of_node one(here());
  if (here().is_leader()) {
    one.lock();
  }
  barrier_of_node();
  BOOST_CHECK_EQUAL(one.writer(), rank_text(0) + here().host());
  BOOST_CHECK(!one.try_lock());
  BOOST_CHECK(!one.try_lock_shared());
  if (!here().is_leader()) {
    BOOST_CHECK(!one.try_lock_shared_for(5ms));
  }
  barrier_of_node();
  if (here().is_leader()) {
    one.unlock();
  }
}

BOOST_AUTO_TEST_CASE(a_writer_gets_in_although_readers_come_and_go)
{
  lock_of_node one(topology(MPI_COMM_SELF));
  std::atomic<bool> written{false};
  std::vector<std::thread> readers;
  for (int i = 0; i < 3; ++i) {
    readers.emplace_back([&] {
      while (!written) {
        const std::shared_lock hold(one);
        std::this_thread::yield();
      }
    });
  }
  one.lock();
  written = true;
  one.unlock();
  for (auto& each : readers) {
    each.join();
  }
}

BOOST_AUTO_TEST_CASE(a_writer_whose_time_is_over_lets_readers_in_again)
{
  lock_of_node one(topology(MPI_COMM_SELF));
  one.lock_shared();
  std::thread([&] {
    BOOST_CHECK(!one.try_lock_for(20ms));
    BOOST_CHECK(one.try_lock_shared());
    one.unlock_shared();
  }).join();
  one.unlock_shared();
}

BOOST_AUTO_TEST_CASE(a_signal_ends_a_wait_and_leaves_nothing_held)
{
  lock_of_node one(topology(MPI_COMM_SELF));
  const replaced<bool (*)()> hook(nodeshare::hooks.interrupted, [] { return true; });
  one.lock_shared();
  std::thread([&] { BOOST_CHECK_THROW(one.lock(), interrupted); }).join();
  BOOST_CHECK_EQUAL(one.writer(), "");
  one.unlock_shared();
  one.lock();
  std::thread([&] { BOOST_CHECK_THROW(one.lock_shared(), interrupted); }).join();
  BOOST_CHECK_EQUAL(one.readers(), "");
  one.unlock();
}

BOOST_AUTO_TEST_CASE(a_thread_that_would_wait_for_itself_throws)
{
  lock_of_node one(topology(MPI_COMM_SELF));
  one.lock_shared();
  contains(thrown<error>([&] { one.lock(); }), "shared_mutex() at shared_mutex_test.cpp:");
  thrown<error>([&] { one.lock_shared(); });
  BOOST_CHECK(!one.try_lock() && !one.try_lock_shared());
  thrown<error>([&] { one.unlock(); });
  one.unlock_shared();
  thrown<error>([&] { one.unlock_shared(); });
  one.lock();
  thrown<error>([&] { one.lock(); });
  thrown<error>([&] { one.lock_shared(); });
  thrown<error>([&] { one.unlock_shared(); });
  one.unlock();
}

BOOST_AUTO_TEST_CASE(a_reader_that_ended_is_heard_of_by_the_next_writer_and_then_by_all)
{
  lock_of_node one(topology(MPI_COMM_SELF));
  std::thread([&] { one.lock_shared(); }).join();
  one.lock_shared();
  one.unlock_shared();
  contains(thrown<peer_error>([&] { one.lock(); }), "rank 0 on " + here().host() + " has ended while it held");
  thrown<peer_error>([&] { one.lock_shared(); });
  thrown<peer_error>([&] { (void)one.try_lock(); });
}

BOOST_AUTO_TEST_CASE(a_writer_that_ended_is_heard_of_by_readers_and_writers)
{
  for (const bool reads : {true, false}) {
    lock_of_node one(topology(MPI_COMM_SELF));
    std::thread([&] { one.lock(); }).join();
    thrown<peer_error>([&] { reads ? one.lock_shared() : one.lock(); });
    thrown<peer_error>([&] { reads ? one.lock() : one.lock_shared(); });
    thrown<peer_error>([&] { one.unlock(); });
  }
}

BOOST_AUTO_TEST_CASE(on_several_nodes_it_is_refused_by_all, *boost::unit_test::precondition(several_nodes))
{
  contains(thrown<invalid_argument>([] { lock_of_node one(world()); }), "topology().node_comm");
  check_still_works(world());
}

BOOST_AUTO_TEST_SUITE_END()
