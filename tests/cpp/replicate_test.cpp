// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/replicate.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "support.hpp"

using namespace nodeshare;
using namespace nodeshare::test;

namespace {

std::byte content(std::size_t offset, int node)
{
  return static_cast<std::byte>(offset * 131 + (offset >> 8) * 7 + (offset >> 16) * 29 +
                                static_cast<std::size_t>(node) * 101 + 1);
}

memory make(std::size_t bytes) { return test::make(world(), bytes); }

/// Collective over the node. Every byte tells its offset and its node.
void fill(const memory& one)
{
  meet(one);  // others may still read
  if (world().is_leader()) {
    for (std::size_t i = 0; i < one->size_bytes(); ++i) {
      one->data()[i] = content(i, world().node());
    }
  }
  meet(one);
}

/// Every byte has to be that of the node which `source` names for it.
template <class Source>
void check_bytes(const memory& one, Source source)
{
  std::size_t wrong = 0;
  std::size_t first = 0;
  for (std::size_t i = one->size_bytes(); i-- > 0;) {
    if (one->data()[i] != content(i, source(i))) {
      ++wrong;
      first = i;
    }
  }
  BOOST_CHECK_MESSAGE(wrong == 0, wrong << " bytes are wrong, the first is " << first);
}

/// Rank whose local_range holds the row.
int owner_of(std::size_t row, std::size_t rows)
{
  int rank = 0;
  while (row >= block_of(rows, static_cast<std::size_t>(rank), static_cast<std::size_t>(world().size())).second) {
    ++rank;
  }
  return rank;
}

std::vector<int> owners_of(std::size_t rows)
{
  std::vector<int> out(rows);
  for (std::size_t row = 0; row < rows; ++row) {
    out[row] = world().node_of(owner_of(row, rows));
  }
  return out;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(replicate)

BOOST_AUTO_TEST_CASE(bcast_brings_the_bytes_of_any_roots_node_to_all)
{
  for (const std::size_t bytes : {std::size_t{1}, std::size_t{7}, std::size_t{100003}}) {
    const memory one = make(bytes);
    for (int root = 0; root < world().size(); ++root) {
      fill(one);
      bcast(one, root);
      check_bytes(one, [&](std::size_t) { return world().node_of(root); });
    }
  }
}

BOOST_AUTO_TEST_CASE(bcast_carries_more_than_a_chunk)
{
  const memory one = make(9 * megabyte + 13);
  const int root = world().size() - 1;
  fill(one);
  bcast(one, root);
  check_bytes(one, [&](std::size_t) { return world().node_of(root); });
}

BOOST_AUTO_TEST_CASE(a_root_that_does_not_exist_is_refused_alike_on_every_rank)
{
  const memory one = make(100);
  for (const int root : {-1, world().size(), std::numeric_limits<int>::max(), std::numeric_limits<int>::min()}) {
    const std::string text = thrown<invalid_argument>([&] { bcast(one, root); });
    contains(text, "root is " + std::to_string(root));
    BOOST_CHECK(same_text(text));
  }
  fill(one);
  bcast(one, 0);
  check_bytes(one, [](std::size_t) { return 0; });
}

BOOST_AUTO_TEST_CASE(different_roots_are_a_mismatch_that_names_them, *boost::unit_test::precondition(several_ranks))
{
  const memory one = make(100);
  const std::string text = thrown<mismatch>([&] { bcast(one, world().rank() == 0 ? 0 : 1); });
  contains(text, "root=0");
  contains(text, "root=1");
  BOOST_CHECK(same_text(text));
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(a_wrong_root_on_one_rank_throws_on_all, *boost::unit_test::precondition(several_ranks))
{
  const memory one = make(100);
  if (world().rank() == 0) {
    BOOST_CHECK_THROW(bcast(one, -1), invalid_argument);
  } else {
    contains(thrown<peer_error>([&] { bcast(one, 0); }), "root is -1");
  }
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(allgather_brings_each_row_from_the_node_of_its_owner)
{
  const auto size = static_cast<std::size_t>(world().size());
  for (const std::size_t rows : {std::size_t{0}, std::size_t{1}, size - 1, size, size + 1, std::size_t{1009}}) {
    for (const std::size_t row_bytes : {std::size_t{1}, std::size_t{13}, std::size_t{24}}) {
      const memory one = make(rows * row_bytes);
      fill(one);
      allgather(call("allgather", ""), one, {rows, row_bytes, 1}, default_owners(*one->home(), rows));
      const std::vector<int> owners = owners_of(rows);
      check_bytes(one, [&](std::size_t offset) { return owners[offset / row_bytes]; });
    }
  }
}

BOOST_AUTO_TEST_CASE(allgather_of_large_rows_goes_in_many_chunks)
{
  const std::size_t rows = 7;
  const std::size_t row_bytes = megabyte + 1;
  const memory one = make(rows * row_bytes);
  fill(one);
  allgather(call("allgather", ""), one, {rows, row_bytes, 1}, default_owners(*one->home(), rows));
  const std::vector<int> owners = owners_of(rows);
  check_bytes(one, [&](std::size_t offset) { return owners[offset / row_bytes]; });
}

BOOST_AUTO_TEST_CASE(allgather_in_left_layout_brings_each_row_of_each_column)
{
  const std::size_t rows = 37;
  const std::size_t columns = 300;
  const shared_array<std::size_t, 2> a(world(), {rows, columns}, {.layout = layout::left});
  fill(a.memory());
  a.allgather();
  const std::vector<int> owners = owners_of(rows);
  check_bytes(a.memory(), [&](std::size_t offset) { return owners[offset / sizeof(std::size_t) % rows]; });
}

BOOST_AUTO_TEST_CASE(default_owners_name_the_node_of_each_row_once)
{
  for (const std::size_t rows : {std::size_t{0}, std::size_t{1}, std::size_t{100}, std::size_t{1} << 40}) {
    std::size_t next = 0;
    for (const row_block& block : default_owners(*node::of(world()), rows)) {
      BOOST_CHECK_EQUAL(block.first, next);
      if (block.last > block.first) {
        BOOST_CHECK_EQUAL(block.node, world().node_of(owner_of(block.first, rows)));
        BOOST_CHECK_EQUAL(block.node, world().node_of(owner_of(block.last - 1, rows)));
      }
      next = block.last;
    }
    BOOST_CHECK_EQUAL(next, rows);
  }
}

BOOST_AUTO_TEST_CASE(rows_can_belong_to_nodes_in_any_order)
{
  const std::size_t rows = 50;
  const std::size_t row_bytes = 9;
  const memory one = make(rows * row_bytes);
  std::vector<row_block> blocks;
  for (std::size_t row = rows; row-- > 0;) {
    blocks.push_back({row, row + 1, static_cast<int>(row * 7 % static_cast<std::size_t>(world().nodes()))});
  }
  fill(one);
  allgather(call("allgather", ""), one, {rows, row_bytes, 1}, blocks);
  check_bytes(one, [&](std::size_t offset) {
    return static_cast<int>(offset / row_bytes * 7 % static_cast<std::size_t>(world().nodes()));
  });
}

BOOST_AUTO_TEST_CASE(strided_runs_leave_the_bytes_between_them_alone)
{
  const auto nodes = static_cast<std::size_t>(world().nodes());
  const std::size_t step = 16;
  const std::size_t count = 1001;
  const memory one = make(step * nodes * count);
  std::vector<byte_run> runs;
  for (std::size_t node = 0; node < nodes; ++node) {
    runs.push_back({node * step + 3, 11, static_cast<int>(node), step * nodes, count});
  }
  fill(one);
  nodeshare::replicate(call("replicate", ""), one, runs);
  check_bytes(one, [&](std::size_t offset) {
    const bool inside = offset % step >= 3 && offset % step < 14;
    return inside ? static_cast<int>(offset / step % nodes) : world().node();
  });
}

BOOST_AUTO_TEST_CASE(many_tiny_runs_arrive)
{
  const auto nodes = static_cast<std::size_t>(world().nodes());
  const std::size_t count = 20001;
  const memory one = make(3 * count);
  std::vector<byte_run> runs;
  for (std::size_t i = 0; i < count; ++i) {
    runs.push_back({3 * i, 3, static_cast<int>(i % nodes)});
  }
  fill(one);
  nodeshare::replicate(call("replicate", ""), one, runs);
  check_bytes(one, [&](std::size_t offset) { return static_cast<int>(offset / 3 % nodes); });
}

BOOST_AUTO_TEST_CASE(a_run_longer_than_a_chunk_goes_with_short_ones)
{
  const memory one = make(6 * megabyte);
  const int last = world().nodes() - 1;
  const std::vector<byte_run> runs = {
      {0, 5, last}, {5, 5 * megabyte - 7, 0}, {5 * megabyte, 1, last}, {5 * megabyte + 9, megabyte - 9, last}};
  fill(one);
  nodeshare::replicate(call("replicate", ""), one, runs);
  check_bytes(one, [&](std::size_t offset) {
    for (const byte_run& run : runs) {
      if (offset >= run.offset && offset < run.offset + run.bytes) {
        return run.node;
      }
    }
    return world().node();
  });
}

BOOST_AUTO_TEST_CASE(empty_runs_move_nothing)
{
  const memory one = make(100);
  const std::vector<byte_run> runs = {{0, 0, 0}, {10, 5, 0, 5, 0}, {50, 0, world().nodes() - 1, 0, 7}};
  fill(one);
  nodeshare::replicate(call("replicate", ""), one, runs);
  nodeshare::replicate(call("replicate", ""), one, {});
  check_bytes(one, [](std::size_t) { return world().node(); });
}

BOOST_AUTO_TEST_CASE(replicating_again_and_again_stays_right)
{
  const memory one = make(5003);
  for (int round = 0; round < 20; ++round) {
    const int root = round % world().size();
    fill(one);
    bcast(one, root);
    check_bytes(one, [&](std::size_t) { return world().node_of(root); });
  }
}

BOOST_AUTO_TEST_SUITE_END()
