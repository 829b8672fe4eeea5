// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/reduce.hpp"

#include <algorithm>
#include <cmath>
#include <complex>
#include <cstdint>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "combining.hpp"
#include "copying.hpp"
#include "support.hpp"

using namespace nodeshare;
using namespace nodeshare::test;

namespace {

template <class T>
std::vector<T> brought(std::size_t count, int rank)
{
  std::vector<T> out(count);
  for (std::size_t i = 0; i < count; ++i) {
    const auto number = (i * 7 + static_cast<std::size_t>(rank) * 13 + i / 97) % 61 + 1;
    if constexpr (std::is_same_v<T, bool>) {
      out[i] = number % 3 != 0;
    } else if constexpr (std::is_integral_v<T>) {
      out[i] = static_cast<T>(number);
    } else {
      out[i] = static_cast<T>(static_cast<float>(number)) / static_cast<T>(3);
    }
  }
  return out;
}

/// What all ranks bring, combined as the library promises: on each node by rank, then by node.
template <class T, class How>
std::vector<T> expected(std::size_t count, How how, const topology& where = world())
{
  std::vector<T> out;
  for (int node = 0; node < where.nodes(); ++node) {
    std::vector<T> of_node;
    for (const int rank : where.ranks_on(node)) {
      const std::vector<T> mine = brought<T>(count, rank);
      if (of_node.empty()) {
        of_node = mine;
      } else {
        std::ranges::transform(of_node, mine, of_node.begin(), how);
      }
    }
    if (out.empty()) {
      out = of_node;
    } else {
      std::ranges::transform(out, of_node, out.begin(), how);
    }
  }
  return out;
}

template <class T>
void check_same(const shared_array<T>& got, const std::vector<T>& wanted)
{
  BOOST_CHECK(std::ranges::equal(got.view(), wanted));
}

template <class T>
void check_sum_and_prod()
{
  const std::size_t count = 1013;
  const shared_array<T> a(world(), {count});
  const std::vector<T> mine = brought<T>(count, world().rank());
  a.allreduce(mine);
  check_same(a, expected<T>(count, [](T x, T y) { return static_cast<T>(x + y); }));
  a.sync();
  a.allreduce(std::span<const T>(mine), operation::prod);
  check_same(a, expected<T>(count, [](T x, T y) {
               if constexpr (std::is_integral_v<T>) {
                 return static_cast<T>(static_cast<std::uint64_t>(x) * static_cast<std::uint64_t>(y));
               } else if constexpr (std::is_floating_point_v<T>) {
                 return x * y;
               } else {
                 return T(x.real() * y.real() - x.imag() * y.imag(), x.real() * y.imag() + x.imag() * y.real());
               }
             }));
}

/// A made operation that keeps the left of two: it does not commute.
void keep_left(void* left, void* right, int* count, MPI_Datatype*)
{
  std::memcpy(right, left, static_cast<std::size_t>(*count) * sizeof(double));
}

class made_operation {
 public:
  explicit made_operation(bool commutes) { MPI_Op_create(keep_left, commutes ? 1 : 0, &op_); }
  ~made_operation() { MPI_Op_free(&op_); }
  made_operation(const made_operation&) = delete;
  made_operation& operator=(const made_operation&) = delete;
  operator MPI_Op() const { return op_; }

 private:
  MPI_Op op_ = MPI_OP_NULL;
};

bool consecutive()
{
  std::vector<int> nodes;
  for (int rank = 0; rank < world().size(); ++rank) {
    nodes.push_back(world().node_of(rank));
  }
  return std::ranges::is_sorted(nodes);
}

/// Of a half-precision number, by the textbook: sign, exponent, fraction.
float value_of(std::uint16_t half)
{
  const int exponent = half >> 10 & 31;
  const int fraction = half & 1023;
  const float size = exponent == 31  ? (fraction == 0 ? INFINITY : NAN)
                     : exponent == 0 ? std::ldexp(static_cast<float>(fraction), -24)
                                     : std::ldexp(static_cast<float>(1024 + fraction), exponent - 25);
  return (half & 0x8000) != 0 ? -size : size;
}

std::uint16_t sum_of_halves(std::uint16_t a, std::uint16_t b, operation by = operation::sum)
{
  const combiner add(reduction(element::float16, by));
  const std::byte* from[] = {reinterpret_cast<const std::byte*>(&a), reinterpret_cast<const std::byte*>(&b)};
  std::uint16_t out = 0;
  add.fold(from, 1, reinterpret_cast<std::byte*>(&out), false);
  return out;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(reduce)

BOOST_AUTO_TEST_CASE(numbers_of_every_type_are_added_and_multiplied)
{
  check_sum_and_prod<std::int8_t>();
  check_sum_and_prod<std::int16_t>();
  check_sum_and_prod<std::int32_t>();
  check_sum_and_prod<std::int64_t>();
  check_sum_and_prod<std::uint8_t>();
  check_sum_and_prod<std::uint16_t>();
  check_sum_and_prod<std::uint32_t>();
  check_sum_and_prod<std::uint64_t>();
  check_sum_and_prod<float>();
  check_sum_and_prod<double>();
  check_sum_and_prod<long double>();
  check_sum_and_prod<std::complex<float>>();
  check_sum_and_prod<std::complex<double>>();
  check_sum_and_prod<std::complex<long double>>();
}

BOOST_AUTO_TEST_CASE(every_operation_does_what_its_name_says)
{
  using T = std::int16_t;
  const std::size_t count = 301;
  const std::vector<T> mine = brought<T>(count, world().rank());
  const shared_array<T> a(world(), {count});
  const auto check = [&](operation by, auto how) {
    a.sync();  // others may still read
    a.allreduce(std::span<const T>(mine), by);
    check_same(a, expected<T>(count, [&](T x, T y) { return static_cast<T>(how(x, y)); }));
  };
  check(operation::min, [](T x, T y) { return std::min(x, y); });
  check(operation::max, [](T x, T y) { return std::max(x, y); });
  check(operation::band, [](T x, T y) { return x & y; });
  check(operation::bor, [](T x, T y) { return x | y; });
  check(operation::bxor, [](T x, T y) { return x ^ y; });
}

BOOST_AUTO_TEST_CASE(logical_operations_take_truth_values_and_integers)
{
  // in one byte: the bool of a rank; std::vector<bool> has no bytes
  const bool odd[] = {world().rank() % 2 == 1, true, false, world().rank() == 0};
  const int number[] = {world().rank() % 2 == 1 ? 6 : 0, 4, 0, world().rank() == 0 ? 9 : 0};
  const bool several = world().size() > 1;
  const int odd_ranks = world().size() / 2;
  const shared_array<bool> a(world(), {4});
  const shared_array<int> b(world(), {4});
  const auto check = [&](operation by, std::array<bool, 4> wanted) {
    a.sync();
    a.allreduce(std::span<const bool>(odd), by);
    BOOST_CHECK(std::ranges::equal(a.view(), wanted));
    b.sync();
    b.allreduce(std::span<const int>(number), by);
    BOOST_CHECK(std::ranges::equal(b.view(), wanted, {}, [](int value) { return value != 0; }));
  };
  check(operation::land, {false, true, false, !several});
  check(operation::lor, {several, true, false, true});
  check(operation::lxor, {odd_ranks % 2 == 1, world().size() % 2 == 1, false, true});
}

BOOST_AUTO_TEST_CASE(min_and_max_of_a_nan_are_nan)
{
  const double nan = std::numeric_limits<double>::quiet_NaN();
  const double mine[] = {world().rank() == 0 ? nan : 1.0, world().rank() == world().size() - 1 ? nan : 2.0, 3.0};
  const shared_array<double> a(world(), {3});
  for (const operation by : {operation::min, operation::max}) {
    a.sync();
    a.allreduce(std::span<const double>(mine), by);
    BOOST_CHECK(std::isnan(a.view()(0)) && std::isnan(a.view()(1)) && a.view()(2) == 3.0);
  }
}

BOOST_AUTO_TEST_CASE(every_half_precision_number_comes_through)
{
  for (std::uint32_t bits = 0; bits < 0x10000; ++bits) {
    const auto half = static_cast<std::uint16_t>(bits);
    const std::uint16_t same = sum_of_halves(half, 0x8000);  // + -0
    if (std::isnan(value_of(half)) ? !std::isnan(value_of(same)) : same != half) {
      BOOST_ERROR("half " << bits << " became " << same);
      break;
    }
  }
}

BOOST_AUTO_TEST_CASE(half_precision_sums_are_rounded_to_the_nearest_and_ties_to_even)
{
  BOOST_CHECK_EQUAL(sum_of_halves(0x3c00, 0x3c00), 0x4000);  // 1 + 1
  BOOST_CHECK_EQUAL(sum_of_halves(0x6800, 0x3c00), 0x6800);  // 2048 + 1: halfway, to even
  BOOST_CHECK_EQUAL(sum_of_halves(0x6801, 0x3c00), 0x6802);  // 2050 + 1: halfway, to even
  BOOST_CHECK_EQUAL(sum_of_halves(0x6800, 0x4200), 0x6802);  // 2048 + 3
  BOOST_CHECK_EQUAL(sum_of_halves(0x7bff, 0x4b80), 0x7bff);  // 65504 + 15
  BOOST_CHECK_EQUAL(sum_of_halves(0x7bff, 0x4c00), 0x7c00);  // 65504 + 16: infinity
  BOOST_CHECK_EQUAL(sum_of_halves(0xfbff, 0xcc00), 0xfc00);
  BOOST_CHECK_EQUAL(sum_of_halves(0x0001, 0x0001), 0x0002);                   // subnormals
  BOOST_CHECK_EQUAL(sum_of_halves(0x03ff, 0x0001), 0x0400);                   // the least normal one
  BOOST_CHECK_EQUAL(sum_of_halves(0x3800, 0x0001, operation::prod), 0x0000);  // half of the least: a tie, to even
  BOOST_CHECK_EQUAL(sum_of_halves(0x3a00, 0x0001, operation::prod), 0x0001);
  for (const std::uint16_t a : {0x1234, 0x9abc, 0x5678, 0xc321}) {
    for (const std::uint16_t b : {0x2345, 0x3456, 0xb987, 0x4fed}) {
      const float sum = value_of(a) + value_of(b);
      const float got = value_of(sum_of_halves(a, b));
      const float step = std::ldexp(1.0f, std::max(std::ilogb(sum), -14) - 10);
      BOOST_CHECK_LE(std::abs(got - sum), step / 2);
    }
  }
}

BOOST_AUTO_TEST_CASE(more_than_a_chunk_and_a_range_are_combined)
{
  for (const std::size_t count : {std::size_t{65536}, 3 * megabyte / 2 + 7}) {  // one chunk of a rank; many, and ranges
    const shared_array<double> a(world(), {count});
    a.allreduce(brought<double>(count, world().rank()));
    check_same(a, expected<double>(count, std::plus<>()));
    const shared_array<std::uint8_t> b(world(), {count});
    b.allreduce(brought<std::uint8_t>(count, world().rank()));
    check_same(b, expected<std::uint8_t>(
                      count, [](std::uint8_t x, std::uint8_t y) { return static_cast<std::uint8_t>(x + y); }));
  }
}

BOOST_AUTO_TEST_CASE(fewer_elements_than_ranks_are_combined)
{
  for (const std::size_t count : {std::size_t{0}, std::size_t{1}, static_cast<std::size_t>(world().size() - 1)}) {
    const shared_array<float> a(world(), {count});
    a.allreduce(brought<float>(count, world().rank()));
    check_same(a, expected<float>(count, std::plus<>()));
    a.sync();
    a.allreduce_copies(operation::max);
    check_same(a, expected<float>(count, std::plus<>()));
  }
}

BOOST_AUTO_TEST_CASE(the_array_itself_may_be_what_every_rank_brings)
{
  const std::size_t count = 300007;
  const shared_array<std::uint32_t> a(world(), {count});
  if (world().is_leader()) {
    std::ranges::copy(brought<std::uint32_t>(count, world().node()), a.data());
  }
  a.sync();
  a.allreduce(std::span<const std::uint32_t>(a.data(), count));
  std::vector<std::uint32_t> wanted(count);
  for (int rank = 0; rank < world().size(); ++rank) {
    std::ranges::transform(wanted, brought<std::uint32_t>(count, world().node_of(rank)), wanted.begin(), std::plus<>());
  }
  check_same(a, wanted);
}

BOOST_AUTO_TEST_CASE(a_contribution_that_overlaps_the_array_is_refused)
{
  const shared_array<double> a(world(), {10});
  const std::span<const double> shifted(a.data() + 1, 9);
  const element_block front{0, 9};
  contains(thrown<invalid_argument>([&] {
             nodeshare::allreduce(call("allreduce", ""), a.memory(), front, {element::float64, operation::sum},
                                  {std::as_bytes(shifted), {}});
           }),
           "overlaps");
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(a_contribution_of_another_size_throws_on_all)
{
  const shared_array<double> a(world(), {10});
  const bool wrong = world().rank() == world().size() - 1;
  const std::vector<double> mine(wrong ? 9 : 10);
  if (wrong) {
    contains(thrown<invalid_argument>([&] { a.allreduce(mine); }), "72 B");
  } else {
    contains(thrown<peer_error>([&] { a.allreduce(mine); }), "72 B");
  }
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(what_a_contribution_throws_ends_the_call_on_all_ranks)
{
  const std::size_t count = megabyte;
  const shared_array<double> a(world(), {count});
  const int bad = world().size() - 1;
  contribution mine;
  mine.put = [&](std::size_t first, std::size_t some, std::byte* to) {
    if (world().rank() == bad && first > 0) {
      throw std::out_of_range("no such page in the book");
    }
    std::memset(to, 0, some * sizeof(double));
  };
  const auto reduce = [&] {
    nodeshare::allreduce(call("allreduce", ""), a.memory(), {0, count}, {element::float64, operation::sum}, mine);
  };
  if (world().rank() == bad) {
    BOOST_CHECK_THROW(reduce(), std::out_of_range);
  } else {
    const std::string text = thrown<peer_error>(reduce);
    contains(text, rank_text(bad));
    contains(text, "no such page in the book");
  }
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(copies_of_nodes_are_combined_in_the_order_of_the_nodes)
{
  for (const std::size_t count : {std::size_t{5}, 3 * megabyte / 2 + 7}) {
    const shared_array<double> a(world(), {count});
    if (world().is_leader()) {
      std::ranges::copy(brought<double>(count, world().node()), a.data());
    }
    a.sync();
    a.allreduce_copies();
    std::vector<double> wanted = brought<double>(count, 0);
    for (int node = 1; node < world().nodes(); ++node) {
      std::ranges::transform(wanted, brought<double>(count, node), wanted.begin(), std::plus<>());
    }
    check_same(a, wanted);
  }
}

BOOST_AUTO_TEST_CASE(predefined_operations_of_mpi_are_those_of_the_same_name)
{
  const shared_array<int> a(world(), {3});
  const std::vector<int> mine = brought<int>(3, world().rank());
  a.allreduce(std::span<const int>(mine), MPI_MAX);
  check_same(a, expected<int>(3, [](int x, int y) { return std::max(x, y); }));
  BOOST_CHECK_EQUAL(name_of(reduction(element::int8, MPI_BXOR)), "bxor");
  BOOST_CHECK_EQUAL(name_of(reduction(element::int8, operation::lor)), "lor");
}

BOOST_AUTO_TEST_CASE(operations_that_are_not_for_the_elements_are_refused_alike)
{
  const shared_array<double> a(world(), {3});
  const std::vector<double> mine(3);
  const std::string text =
      thrown<invalid_argument>([&] { a.allreduce(std::span<const double>(mine), operation::band); });
  contains(text, "band of float64");
  contains(text, "sum prod min max");
  BOOST_CHECK(same_text(text));
  contains(thrown<invalid_argument>([&] { a.allreduce_copies(operation::lxor); }), "lxor of float64");
  for (const MPI_Op op : {MPI_MAXLOC, MPI_OP_NULL, MPI_REPLACE}) {
    contains(thrown<invalid_argument>([&] { a.allreduce(std::span<const double>(mine), op); }), "MPI_Op");
  }
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(another_operation_on_one_rank_is_a_mismatch, *boost::unit_test::precondition(several_ranks))
{
  const shared_array<double> a(world(), {3});
  const std::vector<double> mine(3);
  const operation by = world().rank() == 0 ? operation::min : operation::max;
  const std::string text = thrown<mismatch>([&] { a.allreduce(std::span<const double>(mine), by); });
  contains(text, "op=min");
  contains(text, "op=max");
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(a_made_operation_combines_in_the_order_of_the_ranks)
{
  const std::size_t count = 100003;
  const made_operation left(false);
  const shared_array<double> a(world(), {count});
  const std::vector<double> mine = brought<double>(count, world().rank());
  const auto reduce = [&] { a.allreduce(std::span<const double>(mine), static_cast<MPI_Op>(left)); };
  if (consecutive()) {
    reduce();
    check_same(a, brought<double>(count, 0));
  } else {
    contains(thrown<invalid_argument>(reduce), "consecutive");
  }
  const made_operation commutes(true);  // it doesn't, but is taken at its word
  a.sync();
  a.allreduce(std::span<const double>(mine), static_cast<MPI_Op>(commutes));
  check_same(a, brought<double>(count, 0));
}

BOOST_AUTO_TEST_CASE(a_made_operation_is_not_for_half_precision)
{
  const made_operation left(true);
  BOOST_CHECK(combiner(reduction(element::float16, static_cast<MPI_Op>(left))).objection());
  BOOST_CHECK(!combiner(reduction(element::float32, static_cast<MPI_Op>(left))).objection());
}

BOOST_AUTO_TEST_CASE(streaming_copies_every_byte_and_no_other)
{
  std::vector<std::byte> from(1000), to(1000);
  for (std::size_t i = 0; i < from.size(); ++i) {
    from[i] = static_cast<std::byte>(i * 37 + 1);
  }
  for (const std::size_t begin : {0u, 1u, 15u, 63u, 64u}) {
    for (const std::size_t bytes : {0u, 1u, 63u, 64u, 65u, 500u}) {
      std::ranges::fill(to, std::byte{0});
      stream(to.data() + begin, from.data() + 3, bytes);
      bool right = true;
      for (std::size_t i = 0; i < to.size(); ++i) {
        const bool inside = i >= begin && i < begin + bytes;
        right = right && to[i] == (inside ? from[i - begin + 3] : std::byte{0});
      }
      BOOST_CHECK_MESSAGE(right, bytes << " bytes to " << begin);
    }
  }
}

BOOST_AUTO_TEST_SUITE_END()
