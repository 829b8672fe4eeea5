// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/shared_array.hpp"

#include <algorithm>
#include <complex>
#include <limits>
#include <numeric>
#include <type_traits>
#include <vector>

#include "support.hpp"

using namespace nodeshare;
using namespace nodeshare::test;

namespace {

template <class T, std::size_t Dims = 1>
using array_of = nodeshare::shared_array<T, Dims>;

constexpr std::size_t most = std::numeric_limits<std::size_t>::max();

struct particle {
  char kind;
  double position[3];
  int cell;
  bool operator==(const particle&) const = default;
};

}  // namespace

static_assert(!std::is_copy_constructible_v<array_of<int>> && !std::is_copy_assignable_v<array_of<int>>);
static_assert(std::is_nothrow_move_constructible_v<array_of<int>> && std::is_nothrow_move_assignable_v<array_of<int>>);
static_assert(std::is_nothrow_destructible_v<array_of<int>>);
static_assert(!std::is_convertible_v<MPI_Comm, array_of<int>>);
static_assert(bytes_of<2>({3, 5}, 8) == 120);
static_assert(bytes_of<2>({most, most}, 8) == most && bytes_of<2>({most, 0}, 8) == 0);
static_assert(bytes_of<1>({most / 8 + 1}, 8) == most);

BOOST_AUTO_TEST_SUITE(shared_array)

BOOST_AUTO_TEST_CASE(a_new_array_is_zero_and_has_its_extents)
{
  const array_of<double, 2> a(MPI_COMM_WORLD, {13, 7});
  BOOST_CHECK((a.extents() == std::array<std::size_t, 2>{13, 7}));
  BOOST_CHECK_EQUAL(a.size(), 91);
  BOOST_CHECK_EQUAL(a.size_bytes(), 91 * sizeof(double));
  BOOST_CHECK(std::ranges::all_of(a.view(), [](double value) { return value == 0; }));
  BOOST_CHECK(a.where().comm() == MPI_COMM_WORLD);
}

BOOST_AUTO_TEST_CASE(local_rows_of_a_node_cover_its_array_exactly_once)
{
  for (const std::size_t rows : {std::size_t{0}, std::size_t{1}, std::size_t{2}, std::size_t{17}}) {
    const array_of<int, 2> a(world(), {rows, 3});
    for (int& value : a.local()) {
      value += 1;
    }
    a.sync();
    BOOST_CHECK_EQUAL(std::ranges::count(a.view(), 1), static_cast<std::ptrdiff_t>(3 * rows));
    BOOST_CHECK_EQUAL(std::distance(a.local().begin(), a.local().end()),
                      static_cast<std::ptrdiff_t>(3 * (a.rows().second - a.rows().first)));
    a.sync();
  }
}

BOOST_AUTO_TEST_CASE(rows_of_a_rank_are_counted_among_the_ranks_of_its_own_node)
{
  const array_of<int> a(world(), {101});
  for (int node = 0; node < world().nodes(); ++node) {
    std::size_t next = 0;
    for (const int rank : world().ranks_on(node)) {
      BOOST_CHECK_EQUAL(a.rows(rank).first, next);
      next = a.rows(rank).second;
      BOOST_CHECK(a.part(rank).data() == a.data() + a.rows(rank).first);
    }
    BOOST_CHECK_EQUAL(next, 101);
  }
  BOOST_CHECK(a.rows() == a.rows(world().rank()));
}

BOOST_AUTO_TEST_CASE(rows_of_a_rank_that_does_not_exist_are_refused)
{
  const array_of<int> a(world(), {10});
  BOOST_CHECK_THROW((void)a.rows(-1), invalid_argument);
  BOOST_CHECK_THROW((void)a.part(world().size()), invalid_argument);
}

BOOST_AUTO_TEST_CASE(in_left_layout_the_first_index_is_contiguous)
{
  const array_of<int, 2> a(world(), {5, 3}, {.layout = layout::left});
  BOOST_CHECK(&a.view()(1, 0) == a.data() + 1);
  BOOST_CHECK(&a.view()(0, 1) == a.data() + 5);
  a.local()(0, 2) = 0;
  for (int& value : a.local()) {
    value = world().node_rank() + 1;
  }
  a.sync();
  for (const int rank : world().ranks_on(world().node())) {
    const auto [first, last] = a.rows(rank);
    for (std::size_t row = first; row < last; ++row) {
      for (std::size_t column = 0; column < 3; ++column) {
        BOOST_CHECK_EQUAL(a.data()[row + 5 * column] > 0, true);
      }
    }
  }
}

BOOST_AUTO_TEST_CASE(empty_arrays_can_do_everything)
{
  for (const std::array<std::size_t, 2>& extents : {std::array<std::size_t, 2>{0, 4}, {4, 0}, {0, 0}, {0, most}}) {
    for (const layout order : {layout::right, layout::left}) {
      const array_of<double, 2> a(world(), extents, {.layout = order});
      BOOST_CHECK_EQUAL(a.size(), 0);
      BOOST_CHECK_EQUAL(a.size_bytes(), 0);
      BOOST_CHECK(a.view().empty() && a.local().empty());
      BOOST_CHECK_NO_THROW(a.sync());
      BOOST_CHECK_NO_THROW(a.bcast(world().size() - 1));
      BOOST_CHECK_NO_THROW(a.allgather());
    }
  }
}

BOOST_AUTO_TEST_CASE(an_oversized_request_throws_on_every_rank)
{
  for (const bool reserve : {true, false}) {
    for (const std::size_t bytes : {std::size_t{1} << 50, std::size_t{1} << 61, most}) {
      const std::string text =
          thrown<out_of_shared_memory>([&] { array_of<char> a(world(), {bytes}, {.reserve = reserve}); });
      contains(text, "shared_array");
      BOOST_CHECK(same_text(text));
    }
  }
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(extents_whose_product_overflows_throw_on_every_rank)
{
  BOOST_CHECK_THROW((array_of<double, 2>(world(), {std::size_t{1} << 33, std::size_t{1} << 33})), out_of_shared_memory);
  BOOST_CHECK_THROW((array_of<double, 2>(world(), {most, 2})), out_of_shared_memory);
  BOOST_CHECK_THROW((array_of<double>(world(), {most / 8 + 2})), out_of_shared_memory);
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(an_array_without_reserved_pages_reads_zero_and_takes_writes)
{
  const array_of<int> a(world(), {std::size_t{1} << 20}, {.reserve = false});
  BOOST_CHECK_EQUAL(a.view()((1 << 20) - 1), 0);
  a.sync();
  for (int& value : a.local()) {
    value = 3;
  }
  a.sync();
  BOOST_CHECK_EQUAL(std::ranges::count(a.view(), 3), 1 << 20);
}

BOOST_AUTO_TEST_CASE(structs_are_shared)
{
  const array_of<particle> a(world(), {9});
  const particle wanted{'x', {1, 2, 3}, world().node()};
  std::ranges::fill(a.local(), wanted);
  a.sync();
  BOOST_CHECK_EQUAL(std::ranges::count(a.view(), wanted), 9);
}

BOOST_AUTO_TEST_CASE(every_element_type_is_aligned)
{
  const auto aligned = [](const auto& a) {
    using T = typename std::remove_cvref_t<decltype(a)>::value_type;
    return reinterpret_cast<std::uintptr_t>(a.data()) % std::max<std::size_t>(alignof(T), linux_api::page_size()) == 0;
  };
  BOOST_CHECK(aligned(array_of<std::int64_t>(world(), {3})));
  BOOST_CHECK(aligned(array_of<long double>(world(), {3})));
  BOOST_CHECK(aligned(array_of<std::complex<long double>>(world(), {3})));
}

BOOST_AUTO_TEST_CASE(long_doubles_keep_all_their_digits)
{
  const array_of<long double> a(world(), {8});
  const long double third = 1.0L / 3;
  std::ranges::fill(a.local(), third);
  a.sync();
  BOOST_CHECK_EQUAL(std::ranges::count(a.view(), third), 8);
}

BOOST_AUTO_TEST_CASE(three_dimensions_are_indexed_as_one_would)
{
  const array_of<std::size_t, 3> a(world(), {4, 5, 6});
  if (world().is_leader()) {
    std::iota(a.data(), a.data() + a.size(), std::size_t{0});
  }
  a.sync();
  BOOST_CHECK_EQUAL(a.view()(3, 4, 5), 119);
  BOOST_CHECK_EQUAL(a.view()(1, 2, 3), 45);
}

BOOST_AUTO_TEST_CASE(a_moved_array_is_the_same_memory)
{
  array_of<int> a(world(), {10});
  const int* data = a.data();
  a.view()(3) = 3;
  array_of<int> b = std::move(a);
  BOOST_CHECK(b.data() == data);
  array_of<int> c(world(), {20});
  const int* old = c.data();
  c = std::move(b);
  BOOST_CHECK(c.data() == data);
  BOOST_CHECK_EQUAL(c.view()(3), 3);
  BOOST_CHECK(find_segment(old) == nullptr);  // let go by the assignment
  c.sync();
}

BOOST_AUTO_TEST_CASE(an_array_outlives_its_topology_and_communicator)
{
  std::optional<array_of<int>> a;
  {
    const own_comm comm;
    a.emplace(comm, std::array<std::size_t, 1>{10});
  }
  std::ranges::fill(a->local(), 1);
  a->sync();
  BOOST_CHECK_EQUAL(std::ranges::count(a->view(), 1), 10);
}

BOOST_AUTO_TEST_CASE(other_extents_on_one_rank_are_named_on_all, *boost::unit_test::precondition(several_ranks))
{
  const bool odd = world().rank() == world().size() - 1;
  const std::string text = thrown<mismatch>([&] { array_of<int, 2> a(world(), {3, odd ? 5u : 4u}); });
  contains(text, "extents={3, 4}");
  contains(text, "extents={3, 5}");
  contains(text, "shared_array_test.cpp:");
  BOOST_CHECK(same_text(text));
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(other_elements_layouts_and_options_on_one_rank_are_mismatches,
                     *boost::unit_test::precondition(several_ranks))
{
  const bool odd = world().rank() == 0;
  BOOST_CHECK_THROW(odd ? void(array_of<char>(world(), {8})) : void(array_of<double>(world(), {8})), mismatch);
  BOOST_CHECK_THROW((array_of<int, 2>(world(), {8, 8}, {.layout = odd ? layout::left : layout::right})), mismatch);
  BOOST_CHECK_THROW(array_of<int>(world(), {8}, {.reserve = odd}), mismatch);
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(syncing_different_arrays_is_a_mismatch_that_names_both,
                     *boost::unit_test::precondition(a_crowded_node))
{
  const array_of<int> a(world(), {3});
  const array_of<int> b(world(), {4});
  if (world().node_size() > 1) {
    const std::string text = thrown<mismatch>([&] { (world().is_leader() ? a : b).sync(); });
    contains(text, "extents={3}");
    contains(text, "extents={4}");
  }
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(ordinary_arrays_replicate)
{
  const array_of<int> a(world(), {100});
  if (world().is_leader()) {
    std::ranges::fill(a.view(), world().node() + 1);
  }
  a.sync();
  const int root = world().size() - 1;
  a.bcast(root);
  BOOST_CHECK_EQUAL(std::ranges::count(a.view(), world().node_of(root) + 1), 100);
}

BOOST_AUTO_TEST_SUITE_END()
