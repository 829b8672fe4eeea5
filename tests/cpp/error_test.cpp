// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/error.hpp"

#include <limits>
#include <type_traits>

#include "failure.hpp"
#include "support.hpp"

using namespace nodeshare;
using namespace nodeshare::test;

static_assert(std::is_base_of_v<std::runtime_error, error>);
static_assert(std::is_base_of_v<error, invalid_argument> && std::is_base_of_v<error, mismatch> &&
              std::is_base_of_v<error, out_of_shared_memory> && std::is_base_of_v<error, mpi_error> &&
              std::is_base_of_v<error, peer_error> && std::is_base_of_v<error, interrupted>);
static_assert(std::is_nothrow_copy_constructible_v<error>);

BOOST_AUTO_TEST_SUITE(error)

BOOST_AUTO_TEST_CASE(an_mpi_error_names_routine_code_and_reason)
{
  const mpi_error why("MPI_Comm_split", MPI_ERR_COMM);
  char reason[MPI_MAX_ERROR_STRING];
  int length = 0;
  MPI_Error_string(MPI_ERR_COMM, reason, &length);
  BOOST_CHECK_EQUAL(why.routine(), "MPI_Comm_split");
  BOOST_CHECK_EQUAL(why.code(), MPI_ERR_COMM);
  contains(why.what(), "MPI_Comm_split");
  contains(why.what(), reason);
}

BOOST_AUTO_TEST_CASE(a_refused_mpi_call_throws_and_a_good_one_does_not)
{
  BOOST_CHECK_THROW(check_mpi(MPI_ERR_ARG, "MPI_Something"), mpi_error);
  BOOST_CHECK_NO_THROW(check_mpi(MPI_SUCCESS, "MPI_Something"));
}

BOOST_AUTO_TEST_CASE(every_kind_of_failure_throws_its_class_with_its_text)
{
  BOOST_CHECK_EQUAL(thrown<invalid_argument>([] { raise(failure_kind::invalid_argument, "a"); }), "a");
  BOOST_CHECK_EQUAL(thrown<out_of_shared_memory>([] { raise(failure_kind::out_of_shared_memory, "b"); }), "b");
  BOOST_CHECK_EQUAL(thrown<mismatch>([] { raise(failure_kind::mismatch, "c"); }), "c");
  BOOST_CHECK_EQUAL(thrown<peer_error>([] { raise(failure_kind::peer, "d"); }), "d");
  BOOST_CHECK_EQUAL(thrown<nodeshare::error>([] { raise(failure_kind::other, "e"); }), "e");
}

BOOST_AUTO_TEST_CASE(bytes_are_written_with_the_unit_that_people_read)
{
  BOOST_CHECK_EQUAL(bytes_text(0), "0 B");
  BOOST_CHECK_EQUAL(bytes_text(1023), "1023 B");
  BOOST_CHECK_EQUAL(bytes_text(1536), "1.5 KiB");
  BOOST_CHECK_EQUAL(bytes_text(std::uint64_t{3} << 30), "3 GiB");
  BOOST_CHECK_EQUAL(bytes_text(std::numeric_limits<std::uint64_t>::max()), "16 EiB");
}

BOOST_AUTO_TEST_CASE(counts_are_written_in_singular_and_plural)
{
  BOOST_CHECK_EQUAL(count_of(0, "rank"), "0 ranks");
  BOOST_CHECK_EQUAL(count_of(1, "rank"), "1 rank");
  BOOST_CHECK_EQUAL(count_of(2, "rank"), "2 ranks");
}

BOOST_AUTO_TEST_SUITE_END()
