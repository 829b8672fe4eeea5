// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/checksum.hpp"

#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "support.hpp"

using namespace nodeshare;
using namespace nodeshare::test;

namespace {

std::uint64_t of(const std::string& text) { return xxh64(std::as_bytes(std::span(text))); }

}  // namespace

BOOST_AUTO_TEST_SUITE(checksum)

BOOST_AUTO_TEST_CASE(xxh64_gives_the_known_digests)
{
  const std::pair<std::size_t, std::uint64_t>
      known[] = {{0, 0xef46db3751d8e999u},  {1, 0x8a4127811b21e730u},   {3, 0x706ba42a2c9708b5u},
                 {4, 0xab7017c45b9d7f8eu},  {8, 0xcf1a70c2b59d51c7u},   {12, 0x3200b8eebbf225adu},
                 {31, 0x1a64d6e3a15b1857u}, {32, 0x9e097eeb3867c631u},  {39, 0x7f26229520b00367u},
                 {63, 0x581606fe115679c2u}, {1000, 0x533c144da5431f06u}};  // by the xxHash project's library
  for (const auto& [length, digest] : known) {
    std::string text;
    for (std::size_t i = 0; i < length; ++i) {
      text += static_cast<char>(i * 37 + 1);
    }
    BOOST_CHECK_EQUAL(of(text), digest);
  }
}

BOOST_AUTO_TEST_CASE(every_byte_and_the_length_count)
{
  for (const std::size_t length : {1u, 7u, 8u, 31u, 32u, 33u, 100u}) {
    std::string text(length, 'x');
    const std::uint64_t before = of(text);
    BOOST_CHECK(of(text + 'x') != before);
    for (std::size_t i = 0; i < length; ++i) {
      text[i] = 'y';
      BOOST_CHECK(of(text) != before);
      text[i] = 'x';
    }
    BOOST_CHECK_EQUAL(of(text), before);
  }
}

BOOST_AUTO_TEST_CASE(all_ranks_get_the_digest_of_their_common_bytes)
{
  for (const std::size_t count : {std::size_t{0}, std::size_t{1}, megabyte, 5 * megabyte + 3}) {
    const shared_array<unsigned char> a(world(), {count});
    for (std::size_t i = a.rows().first; i < a.rows().second; ++i) {
      a.data()[i] = static_cast<unsigned char>(i * 31 + (i >> 16));
    }
    std::vector<std::uint64_t> digests;  // no sync: the checksum is one
    const std::uint64_t got = a.checksum();
    for (std::size_t begin = 0; begin < count; begin += megabyte) {
      digests.push_back(xxh64(std::as_bytes(std::span(a.data() + begin, std::min(megabyte, count - begin)))));
    }
    BOOST_CHECK_EQUAL(got, xxh64(std::as_bytes(std::span(digests))));
  }
}

BOOST_AUTO_TEST_CASE(nodes_that_differ_are_named_on_every_rank, *boost::unit_test::precondition(several_nodes))
{
  const shared_array<int> a(world(), {1000});
  const int odd = world().nodes() - 1;
  if (world().is_leader() && world().node() == odd) {
    a.data()[777] = 1;
  }
  const std::string text = thrown<mismatch>([&] { (void)a.checksum(); });
  contains(text, "on node " + std::to_string(odd));
  contains(text, "extents={1000}");
  BOOST_CHECK(same_text(text));
  a.bcast(0);
  BOOST_CHECK_NO_THROW((void)a.checksum());
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(a_checksum_on_one_rank_alone_is_a_mismatch, *boost::unit_test::precondition(several_ranks))
{
  const shared_array<int> a(world(), {10});
  contains(thrown<mismatch>([&] {
             if (world().rank() == 0) {
               (void)a.checksum();
             } else {
               a.bcast(0);
             }
           }),
           "checksum");
  check_still_works(world());
}

BOOST_AUTO_TEST_SUITE_END()
