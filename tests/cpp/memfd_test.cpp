// SPDX-License-Identifier: BSD-3-Clause
// How memory is named to other processes.
#include <unistd.h>

#include "nodeshare/segment.hpp"
#include "support.hpp"

using namespace nodeshare;
using namespace nodeshare::test;

BOOST_AUTO_TEST_SUITE(memfd)

BOOST_AUTO_TEST_CASE(a_described_memfd_is_attached_by_other_processes)
{
  const kind_of_memory where("memfd");
  const topology& t = where;
  const memory one = make(where, 10000);
  descriptor from = describe(*one);
  BOOST_CHECK_EQUAL(from.pid, ::getpid());
  BOOST_CHECK_EQUAL(from.bytes, 10000);
  MPI_Bcast(&from, sizeof from, MPI_BYTE, 0, t.node_comm());
  const memory attached = attach(from);
  BOOST_CHECK_EQUAL(attached->size_bytes(), 10000);
  BOOST_CHECK(attached->data() != one->data());
  BOOST_CHECK(find_segment(attached->data() + 9999) == attached);
  if (t.is_leader()) {
    one->data()[9999] = std::byte{42};
  }
  one->home()->meet(call("sync", ""));
  BOOST_CHECK(attached->data()[9999] == std::byte{42});
  one->home()->meet(call("read", ""));
}

BOOST_AUTO_TEST_CASE(attached_memory_outlives_the_array_that_was_described)
{
  const kind_of_memory where("memfd");
  memory one = make(where, 100);
  one->data()[3] = std::byte{3};
  const memory attached = attach(describe(*one));
  one.reset();
  BOOST_CHECK(attached->data()[3] == std::byte{3});
  BOOST_CHECK(!attached->home());
}

BOOST_AUTO_TEST_CASE(memory_that_was_let_go_is_not_attached)
{
  const kind_of_memory where("memfd");
  memory one = make(where, 100);
  const descriptor from = describe(*one);
  one.reset();
  BOOST_CHECK_THROW((void)attach(from), error);
  const memory another = make(where, 100);  // may well get the same descriptor
  BOOST_CHECK_THROW((void)attach(from), error);
}

BOOST_AUTO_TEST_CASE(memory_of_an_ended_process_is_not_attached_although_its_number_lives_again)
{
  const kind_of_memory where("memfd");
  const memory one = make(where, 100);
  descriptor from = describe(*one);
  --from.start_time;
  contains(thrown<error>([&] { (void)attach(from); }), "has ended");
}

BOOST_AUTO_TEST_CASE(a_window_has_no_descriptor, *boost::unit_test::precondition(a_crowded_node))
{
  const kind_of_memory where("window");
  const memory one = make(where, 100);
  if (one->kind() == memory_kind::window) {
    contains(thrown<error>([&] { (void)describe(*one); }), "NODESHARE_MEMORY=memfd");
    BOOST_CHECK_EQUAL(one->file(), -1);
  }
}

BOOST_AUTO_TEST_SUITE_END()
