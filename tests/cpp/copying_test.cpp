// SPDX-License-Identifier: BSD-3-Clause
// Copies and clearing of every size and alignment: the bytes that were asked for, and none beside them.
#include "copying.hpp"

#include <algorithm>
#include <vector>

#include "support.hpp"

using namespace nodeshare;

namespace {

constexpr std::size_t MiB = std::size_t{1} << 20;
constexpr std::size_t margin = 64;

std::byte expected_at(std::size_t i) { return static_cast<std::byte>(i * 7 % 251); }

bool copies(std::size_t to, std::size_t from, std::size_t bytes)
{
  std::vector<std::byte> source(from + bytes);
  for (std::size_t i = 0; i < bytes; ++i) {
    source[from + i] = expected_at(i);
  }
  std::vector<std::byte> target(to + bytes + margin, std::byte{255});
  copy_bytes(target.data() + to, source.data() + from, bytes);
  const auto first = target.begin() + static_cast<std::ptrdiff_t>(to);
  const auto last = first + static_cast<std::ptrdiff_t>(bytes);
  const auto untouched = [](std::byte one) { return one == std::byte{255}; };
  return std::equal(first, last, source.begin() + static_cast<std::ptrdiff_t>(from)) &&
         std::all_of(target.begin(), first, untouched) && std::all_of(last, target.end(), untouched);
}

bool clears(std::size_t to, std::size_t bytes)
{
  std::vector<std::byte> target(to + bytes + margin, std::byte{255});
  clear(target.data() + to, bytes);
  const auto first = target.begin() + static_cast<std::ptrdiff_t>(to);
  const auto last = first + static_cast<std::ptrdiff_t>(bytes);
  const auto are = [](std::byte value) { return [value](std::byte one) { return one == value; }; };
  return std::all_of(first, last, are(std::byte{0})) && std::all_of(target.begin(), first, are(std::byte{255})) &&
         std::all_of(last, target.end(), are(std::byte{255}));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(copying)

BOOST_AUTO_TEST_CASE(small_copies_are_exact)
{
  for (const std::size_t bytes : {0, 1, 15, 16, 63, 64, 65, 4097}) {
    BOOST_CHECK(copies(0, 0, bytes));
    BOOST_CHECK(copies(3, 5, bytes));
  }
}

BOOST_AUTO_TEST_CASE(large_copies_are_exact_for_every_alignment)
{
  for (const std::size_t bytes : {4 * MiB - 1, 4 * MiB, 4 * MiB + 1, 5 * MiB + 63, 5 * MiB + 64}) {
    for (const std::size_t to : {0, 1, 8, 16, 63}) {
      BOOST_CHECK(copies(to, 7, bytes));
      BOOST_CHECK(clears(to, bytes));
    }
  }
}

BOOST_AUTO_TEST_CASE(what_is_small_is_cleared_and_no_more)
{
  for (const std::size_t bytes : {0, 1, 63, 64, 65, 4097}) {
    BOOST_CHECK(clears(3, bytes));
  }
}

BOOST_AUTO_TEST_SUITE_END()
