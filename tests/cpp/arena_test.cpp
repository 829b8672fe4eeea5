// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/arena.hpp"

#include <algorithm>
#include <complex>
#include <cstdint>
#include <limits>
#include <optional>
#include <vector>

#include "support.hpp"

using namespace nodeshare;
using namespace nodeshare::test;

namespace {

using arena_of = nodeshare::arena;

std::uintptr_t place_of(const void* address) { return reinterpret_cast<std::uintptr_t>(address); }

}  // namespace

static_assert(!std::is_copy_constructible_v<arena_of> && !std::is_copy_assignable_v<arena_of>);
static_assert(std::is_nothrow_move_constructible_v<arena_of> && std::is_nothrow_move_assignable_v<arena_of>);
static_assert(sizeof(array_view<double, 1>) <= 64, "all that there is for an array beside its data");

BOOST_AUTO_TEST_SUITE(arena)

BOOST_AUTO_TEST_CASE(arrays_are_zero_aligned_and_apart)
{
  arena_of a(world(), megabyte);
  const auto x = a.zeros<double>({3});
  const auto y = a.zeros<std::complex<float>, 2>({5, 7});
  const auto z = a.zeros<char, 3>({2, 3, 4}, layout::left);
  const auto scalar = a.zeros<long double, 0>({});
  BOOST_CHECK(std::ranges::all_of(x, [](double value) { return value == 0; }));
  BOOST_CHECK(std::ranges::all_of(y, [](auto value) { return value == std::complex<float>(0); }));
  BOOST_CHECK(std::ranges::all_of(z, [](char value) { return value == 0; }));
  BOOST_CHECK_EQUAL(scalar(), 0);
  BOOST_CHECK((y.extents() == std::array<std::size_t, 2>{5, 7}));
  BOOST_CHECK_EQUAL(y.stride(0), 7);
  BOOST_CHECK_EQUAL(z.stride(0), 1);
  std::vector<std::uintptr_t> edges{place_of(a.memory()->data())};
  const auto add = [&](const auto& view) {
    BOOST_CHECK_EQUAL(place_of(view.data()) % arena_of::alignment, 0);
    BOOST_CHECK_GE(place_of(view.data()), edges.back());
    edges.push_back(place_of(view.data()) + view.size_bytes());
  };
  add(x), add(y), add(z), add(scalar);
  BOOST_CHECK_EQUAL(a.count(), 4);
  BOOST_CHECK_EQUAL(a.used_bytes(), edges.back() - edges.front());
  BOOST_CHECK_LE(a.used_bytes() + a.free_bytes(), a.size_bytes());
}

BOOST_AUTO_TEST_CASE(ranks_of_a_node_find_the_same_arrays)
{
  arena_of a(world(), 64 * 100);
  const auto rank = static_cast<std::size_t>(world().node_rank());
  const auto ranks = static_cast<std::size_t>(world().node_size());
  std::vector<array_view<std::size_t, 1>> all;
  for (std::size_t i = 0; i < 50; ++i) {
    all.push_back(a.zeros<std::size_t>({1 + i % 8}));
    if (i % ranks == rank) {
      std::ranges::fill(all.back(), i + 1);
    }
  }
  a.sync();
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < 50; ++i) {
    wrong += !std::ranges::all_of(all[i], [&](std::size_t value) { return value == i + 1; });
  }
  BOOST_CHECK_EQUAL(wrong, 0);
  a.sync();
}

BOOST_AUTO_TEST_CASE(empty_arrays_have_places_of_their_own)
{
  arena_of a(world(), 2 * arena_of::alignment);
  const auto x = a.zeros<int>({0});
  const auto y = a.zeros<int, 2>({3, 0});
  BOOST_CHECK(x.empty() && y.empty());
  BOOST_CHECK(x.data() != y.data());
  BOOST_CHECK(find_segment(y.data()) == a.memory());
  a.sync();
}

BOOST_AUTO_TEST_CASE(a_full_arena_says_what_was_asked_and_what_is_left_and_stays_usable)
{
  arena_of a(world(), 1000);
  const auto x = a.zeros<double>({50});
  std::ranges::fill(x, 3);
  for (const std::size_t rows : {std::size_t{70}, std::size_t{1} << 40, std::numeric_limits<std::size_t>::max()}) {
    const std::string text = thrown<out_of_shared_memory>([&] { (void)a.zeros<double>({rows}); });
    contains(text, "extents={" + std::to_string(rows) + "}, 8 bytes each");
    contains(text, "552 B of the 1000 B");
    contains(text, "1 array");
    contains(text, "arena_test.cpp");
  }
  BOOST_CHECK_EQUAL(a.count(), 1);
  BOOST_CHECK_EQUAL(a.free_bytes(), 552);
  const auto y = a.zeros<char>({552});  // to the last byte
  BOOST_CHECK(std::ranges::all_of(y, [](char value) { return value == 0; }));
  BOOST_CHECK_EQUAL(a.free_bytes(), 0);
  contains(thrown<out_of_shared_memory>([&] { (void)a.zeros<char>({0}); }), "0 B");
  BOOST_CHECK(std::ranges::all_of(x, [](double value) { return value == 3; }));
  a.sync();
}

BOOST_AUTO_TEST_CASE(an_oversized_arena_throws_on_every_rank)
{
  BOOST_CHECK_THROW(arena_of(world(), std::size_t{1} << 50), out_of_shared_memory);
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(views_stay_valid_as_long_as_a_copy_of_the_memory_lives)
{
  std::optional<arena_of> a(std::in_place, world(), megabyte, false);
  const auto x = a->zeros<int>({100});
  const auto rank = static_cast<std::size_t>(world().node_rank());
  x(rank) = 7;
  a->sync();
  const auto memory = a->memory();
  arena_of moved(std::move(*a));
  a.reset();
  BOOST_CHECK_EQUAL(moved.count(), 1);
  moved = arena_of(world(), 100);
  BOOST_CHECK_EQUAL(x(rank), 7);
  BOOST_CHECK_EQUAL(std::ranges::count(x, 7), world().node_size());
}

BOOST_AUTO_TEST_CASE(a_hundred_thousand_arrays)
{
  constexpr std::size_t count = 100'000;
  arena_of a(world(), count * arena_of::alignment);
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < count; ++i) {
    const auto x = a.zeros<std::size_t>({8});
    wrong += place_of(x.data()) != place_of(a.memory()->data()) + i * arena_of::alignment;
  }
  BOOST_CHECK_EQUAL(wrong, 0);
  BOOST_CHECK_EQUAL(a.count(), count);
  BOOST_CHECK_EQUAL(a.free_bytes(), 0);
  a.sync();
}

BOOST_AUTO_TEST_CASE(ranks_that_took_different_numbers_of_arrays_all_hear_it_in_the_next_collective_call,
                     *boost::unit_test::precondition(several_ranks))
{
  const own_comm comm;
  const topology where(comm);
  arena_of a(where, megabyte);
  const bool last = where.rank() == where.size() - 1;
  for (int i = 0; i < (last ? 11 : 12); ++i) {
    (void)a.zeros<int>({4});
  }
  const std::string text = thrown<mismatch>([&] { shared_array<int> other(where, {3}); });
  contains(text, "having taken 12 arrays from arena(1048576 bytes) at arena_test.cpp");
  contains(text, "having taken 11 arrays from arena(1048576 bytes) at arena_test.cpp");
  contains(text, rank_text(0));
  contains(text, rank_text(where.size() - 1));
  BOOST_CHECK(same_text(text));
  check_still_works(where);  // once told, the job goes on
  if (where.node_of(0) == where.node_of(where.size() - 1) && where.node_of(0) == where.node()) {
    contains(thrown<mismatch>([&] { a.sync(); }), "arena.sync");  // but the arena is not the same on all ranks
  }
}

BOOST_AUTO_TEST_CASE(ranks_that_took_arrays_in_another_order_all_hear_it,
                     *boost::unit_test::precondition(a_crowded_node))
{
  const own_comm comm;
  const topology where(comm);
  arena_of a(where, megabyte);
  if (where.node_rank() == 0) {
    (void)a.zeros<int>({4});
    (void)a.zeros<float>({5});
  } else {
    (void)a.zeros<float>({5});
    (void)a.zeros<int>({4});
  }
  if (where.node_size() > 1) {
    const std::string text = thrown<mismatch>([&] { a.sync(); });
    contains(text, "the latest zeros(extents={4}, 4 bytes each)");
    contains(text, "the latest zeros(extents={5}, 4 bytes each)");
  }
}

BOOST_AUTO_TEST_CASE(arrays_of_the_same_size_in_another_shape_are_different,
                     *boost::unit_test::precondition(several_ranks))
{
  const own_comm comm;
  const topology where(comm);
  arena_of a(where, megabyte);
  if (where.rank() == 0) {
    (void)a.zeros<int, 2>({4, 5});
  } else {
    (void)a.zeros<int, 2>({5, 4});
  }
  BOOST_CHECK_THROW(node::of(where)->agree(call("next", "")), mismatch);
  check_still_works(where);
}

BOOST_AUTO_TEST_SUITE_END()
