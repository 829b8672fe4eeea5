// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/work.hpp"

#include <algorithm>
#include <limits>
#include <numeric>
#include <vector>

#include "support.hpp"

using namespace nodeshare;
using namespace nodeshare::test;

namespace {

using dealt = nodeshare::work;
using range = std::pair<std::size_t, std::size_t>;

/// Takes all that this rank gets. Returns how often it was given each index.
std::vector<int> take_all(dealt& of)
{
  std::vector<int> times(of.count(), 0);
  while (const auto mine = of.next()) {
    for (std::size_t index = mine->first; index < mine->second && index < times.size(); ++index) {
      ++times[index];
    }
  }
  return times;
}

/// Collective over the job. Whether each index was given to exactly one rank.
bool each_once(std::vector<int> times)
{
  MPI_Allreduce(MPI_IN_PLACE, times.data(), static_cast<int>(times.size()), MPI_INT, MPI_SUM, MPI_COMM_WORLD);
  return std::ranges::all_of(times, [](int n) { return n == 1; });
}

/// One rank takes its first indices before all others.
std::optional<range> first_takes(dealt& of, int rank)
{
  std::optional<range> out;
  if (world().rank() == rank) {
    out = of.next();
  }
  MPI_Barrier(MPI_COMM_WORLD);
  return out;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(work)

BOOST_AUTO_TEST_CASE(each_index_goes_to_exactly_one_rank_of_the_job)
{
  const auto size = static_cast<std::size_t>(world().size());
  for (const schedule how : {schedule::dynamic, schedule::fixed}) {
    for (const std::size_t count : {std::size_t{0}, std::size_t{1}, size - 1, size, size + 1, std::size_t{5000}}) {
      for (const std::size_t chunk : {std::size_t{0}, std::size_t{1}, std::size_t{7}, std::size_t{100000}}) {
        BOOST_TEST_CONTEXT((how == schedule::fixed ? "fixed " : "dynamic ") << count << " by " << chunk)
        {
          dealt hours(world(), count, chunk, how);
          BOOST_CHECK_EQUAL(hours.count(), count);
          BOOST_CHECK(each_once(take_all(hours)));
        }
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(a_chunk_may_be_larger_than_any_work)
{
  for (const schedule how : {schedule::dynamic, schedule::fixed}) {
    dealt hours(world(), 100, std::numeric_limits<std::size_t>::max(), how);
    BOOST_CHECK(each_once(take_all(hours)));
  }
}

BOOST_AUTO_TEST_CASE(chunks_have_the_size_asked_for_but_the_last)
{
  dealt hours(world(), 100, 8);
  while (const auto mine = hours.next()) {
    BOOST_CHECK(mine->second - mine->first == 8 || mine->second == hours.node_range().second);
  }
}

BOOST_AUTO_TEST_CASE(guided_chunks_are_large_first_and_small_at_the_end)
{
  dealt hours(world(), 10000);
  const auto ranks = static_cast<std::size_t>(world().node_size());
  const std::size_t block = hours.node_range().second - hours.node_range().first;
  std::size_t before = std::max<std::size_t>(1, block / (4 * ranks));
  while (const auto mine = hours.next()) {
    BOOST_CHECK_LE(mine->second - mine->first, before);
    before = mine->second - mine->first;
  }
}

BOOST_AUTO_TEST_CASE(a_fixed_schedule_gives_each_rank_one_block_of_its_nodes)
{
  dealt hours(world(), 1000, 0, schedule::fixed);
  const auto [first, last] = hours.node_range();
  const auto mine = block_of(last - first, static_cast<std::size_t>(world().node_rank()),
                             static_cast<std::size_t>(world().node_size()));
  const auto got = hours.next();
  BOOST_CHECK(got.has_value() && *got == range(first + mine.first, first + mine.second));
  BOOST_CHECK(!hours.next().has_value());
}

BOOST_AUTO_TEST_CASE(nodes_get_contiguous_blocks_in_proportion_to_their_ranks)
{
  const std::size_t count = 1000003;
  const dealt hours(world(), count);
  std::size_t next = 0;
  for (const row_block& block : hours.owners()) {
    const double share =
        static_cast<double>(count) * static_cast<double>(world().ranks_on(block.node).size()) / world().size();
    BOOST_CHECK_EQUAL(block.first, next);
    BOOST_CHECK_LE(std::abs(static_cast<double>(block.last - block.first) - share), 1);
    if (block.node == world().node()) {
      BOOST_CHECK((range(block.first, block.last) == hours.node_range()));
    }
    next = block.last;
  }
  BOOST_CHECK_EQUAL(next, count);
}

BOOST_AUTO_TEST_CASE(after_the_end_there_is_nothing_more)
{
  dealt hours(world(), 10);
  take_all(hours);
  BOOST_CHECK(!hours.next().has_value());
  BOOST_CHECK(!hours.next().has_value());
}

BOOST_AUTO_TEST_CASE(when_all_ranks_have_come_to_the_end_the_work_is_finished)
{
  for (const schedule how : {schedule::dynamic, schedule::fixed}) {
    dealt hours(world(), 1000, 0, how);
    take_all(hours);
    hours.home()->meet(call("sync", ""));
    BOOST_CHECK_EQUAL(hours.missing(), "");
    BOOST_CHECK_EQUAL(hours.done_on_node(), hours.node_range().second - hours.node_range().first);
  }
}

BOOST_AUTO_TEST_CASE(a_word_to_stop_is_seen_by_the_ranks_of_its_node)
{
  dealt hours(world(), 1000);
  BOOST_CHECK(!hours.stopped());
  hours.home()->meet(call("sync", ""));
  if (world().rank() == 0) {
    hours.stop();
  }
  hours.home()->meet(call("sync", ""));
  BOOST_CHECK_EQUAL(hours.stopped(), world().node() == 0);
}

BOOST_AUTO_TEST_CASE(two_works_are_dealt_side_by_side)
{
  dealt a(world(), 300);
  dealt b(world(), 200, 3);
  std::vector<int> of_a(300, 0);
  std::vector<int> of_b(200, 0);
  for (auto mine = a.next(); mine; mine = a.next()) {
    std::for_each(of_a.begin() + static_cast<long>(mine->first), of_a.begin() + static_cast<long>(mine->second),
                  [](int& n) { ++n; });
    if (const auto other = b.next()) {
      std::for_each(of_b.begin() + static_cast<long>(other->first), of_b.begin() + static_cast<long>(other->second),
                    [](int& n) { ++n; });
    }
  }
  const std::vector<int> rest = take_all(b);
  std::ranges::transform(of_b, rest, of_b.begin(), std::plus());
  BOOST_CHECK(each_once(of_a));
  BOOST_CHECK(each_once(of_b));
}

BOOST_AUTO_TEST_CASE(different_works_on_the_ranks_are_a_mismatch, *boost::unit_test::precondition(several_ranks))
{
  const bool odd = world().rank() == 0;
  contains(thrown<mismatch>([&] { dealt w(world(), odd ? 10 : 11); }), "work(11)");
  contains(thrown<mismatch>([&] { dealt w(world(), 10, odd ? 2 : 3); }), "chunk=3");
  contains(thrown<mismatch>([&] { dealt w(world(), 10, 0, odd ? schedule::fixed : schedule::dynamic); }), "static");
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(allgather_brings_each_row_from_the_node_that_did_it)
{
  for (const schedule how : {schedule::dynamic, schedule::fixed}) {
    for (const std::size_t rows : {std::size_t{0}, std::size_t{1}, std::size_t{999}}) {
      const shared_array<std::size_t, 2> a(world(), {rows, 3});
      dealt hours(world(), rows, 0, how);
      while (const auto mine = hours.next()) {
        for (std::size_t row = mine->first; row < mine->second; ++row) {
          for (std::size_t column = 0; column < 3; ++column) {
            a.view()(row, column) = row * 3 + column + 1;
          }
        }
      }
      a.allgather(hours);
      std::vector<std::size_t> wanted(3 * rows);
      std::iota(wanted.begin(), wanted.end(), std::size_t{1});
      BOOST_CHECK(std::ranges::equal(a.view(), wanted));
    }
  }
}

BOOST_AUTO_TEST_CASE(indices_that_a_rank_left_undone_are_named_on_every_rank)
{
  for (const schedule how : {schedule::dynamic, schedule::fixed}) {
    const std::size_t count = 400 * static_cast<std::size_t>(world().size());
    const shared_array<int> a(world(), {count});
    dealt hours(world(), count, 0, how);
    const int leaver = world().size() - 1;
    auto taken = first_takes(hours, leaver);
    unsigned long edges[2] = {0, 0};
    if (taken) {
      edges[0] = (taken->first + taken->second) / 2;
      edges[1] = taken->second - 1;
      hours.leave(edges[0]);
      BOOST_CHECK(!hours.next().has_value());
    } else {
      take_all(hours);
    }
    MPI_Bcast(edges, 2, MPI_UNSIGNED_LONG, leaver, MPI_COMM_WORLD);
    const auto gather = [&] { a.allgather(hours); };
    const bool there = world().node() == world().node_of(leaver);
    const std::string text = there ? thrown<nodeshare::error>(gather) : thrown<peer_error>(gather);
    contains(text, "the work is not finished: indices " + std::to_string(edges[0]) + " to " + std::to_string(edges[1]) +
                       " (rank " + std::to_string(leaver) + " left");
    check_still_works(world());
  }
}

BOOST_AUTO_TEST_CASE(indices_that_nobody_took_are_named)
{
  const shared_array<int> a(world(), {100});
  for (const schedule how : {schedule::dynamic, schedule::fixed}) {
    dealt hours(world(), 100, 0, how);
    const auto [first, last] = hours.node_range();
    const std::string text = thrown<nodeshare::error>([&] { a.allgather(hours); });
    contains(text, "the work is not finished: indices " + std::to_string(first) + " to ");
    contains(text, "to " + std::to_string(last - 1) + " (");
  }
}

BOOST_AUTO_TEST_CASE(indices_taken_last_count_as_done_when_the_rank_says_so)
{
  const shared_array<int> a(world(), {100});
  dealt hours(world(), 100, 0, schedule::fixed);
  const auto mine = hours.next();
  hours.leave(mine->second);
  BOOST_CHECK_NO_THROW(a.allgather(hours));
}

BOOST_AUTO_TEST_CASE(a_work_of_another_count_than_the_arrays_rows_is_refused)
{
  const shared_array<int> a(world(), {100});
  dealt hours(world(), 99);
  take_all(hours);
  const std::string text = thrown<invalid_argument>([&] { a.allgather(hours); });
  contains(text, "100 rows");
  contains(text, "99 indices");
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(a_work_of_another_communicator_is_refused)
{
  const own_comm comm;
  const shared_array<int> a(world(), {100});
  dealt hours(topology(comm), 100);
  take_all(hours);
  contains(thrown<invalid_argument>([&] { a.allgather(hours); }), "different communicators");
  check_still_works(world());
}

BOOST_AUTO_TEST_SUITE_END()
