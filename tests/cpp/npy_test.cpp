// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/npy.hpp"

#include <cerrno>
#include <complex>
#include <cstdint>
#include <numeric>
#include <utility>

#include "files.hpp"

using namespace nodeshare;
using namespace nodeshare::test;

namespace {

std::string npy_file(const std::string& text, const std::string& data, char version = 1)
{
  const auto length = static_cast<char>(text.size());
  return "\x93NUMPY" + std::string{version, 0, length, 0} + (version > 1 ? std::string(2, '\0') : "") + text + data;
}

std::string bytes_of(const std::vector<std::int32_t>& values)
{
  return {reinterpret_cast<const char*>(values.data()), values.size() * 4};
}

template <class T>
void check_round_trip(const folder& in, layout order)
{
  nodeshare::shared_array<T, 2> a(world(), {7, 3}, {.layout = order});
  const auto value = [](std::size_t i, std::size_t j) {
    return static_cast<T>(static_cast<double>(i * 3 + j + 1) / 2);
  };
  if (world().is_leader()) {
    for (std::size_t i = 0; i < 7; ++i) {
      for (std::size_t j = 0; j < 3; ++j) {
        a.view()(i, j) = value(i, j);
      }
    }
  }
  save(in / "x.npy", a);
  const auto b = load<T, 2>(in / "x.npy", MPI_COMM_WORLD);
  BOOST_CHECK(b.extents() == a.extents() && b.order() == order);
  bool same = true;
  for (std::size_t i = 0; i < 7; ++i) {
    for (std::size_t j = 0; j < 3; ++j) {
      same = same && b.view()(i, j) == value(i, j);
    }
  }
  BOOST_CHECK_MESSAGE(same, npy_type<T>());
}

}  // namespace

BOOST_AUTO_TEST_SUITE(npy)

BOOST_AUTO_TEST_CASE(arrays_of_every_type_come_back_as_they_were_saved)
{
  const folder in;
  for (const layout order : {layout::right, layout::left}) {
    check_round_trip<bool>(in, order);
    check_round_trip<signed char>(in, order);
    check_round_trip<std::uint16_t>(in, order);
    check_round_trip<int>(in, order);
    check_round_trip<std::uint64_t>(in, order);
    check_round_trip<float>(in, order);
    check_round_trip<double>(in, order);
    check_round_trip<long double>(in, order);
    check_round_trip<std::complex<float>>(in, order);
    check_round_trip<std::complex<double>>(in, order);
  }
  BOOST_CHECK(in.names() == std::vector<std::string>{"x.npy"});
}

BOOST_AUTO_TEST_CASE(a_saved_file_is_what_numpy_writes)
{
  const folder in;
  nodeshare::shared_array<std::int32_t> a(world(), {3});
  a.view()(1) = 7;
  a.sync();
  save(in / "x", a);
  const std::string found = read(in / "x.npy");
  const std::string text = "{'descr': '<i4', 'fortran_order': False, 'shape': (3,), }";
  BOOST_CHECK_EQUAL(found.substr(0, 10), std::string("\x93NUMPY\1\0\x76\0", 10));
  BOOST_CHECK_EQUAL(found.substr(10, 118), text + std::string(117 - text.size(), ' ') + "\n");
  BOOST_CHECK_EQUAL(found.substr(128), bytes_of({0, 7, 0}));
}

BOOST_AUTO_TEST_CASE(large_and_empty_arrays_are_saved_and_loaded)
{
  const folder in;
  for (const std::size_t rows : {std::size_t{0}, std::size_t{1}, (std::size_t{9} << 20) / 8 + 3}) {
    nodeshare::shared_array<double, 3> a(world(), {rows, 1, 1});
    const auto [first, last] = a.rows();
    std::iota(a.data() + first, a.data() + last, static_cast<double>(first));
    save(in / "x.npy", a);
    const auto b = load<double, 3>(in / "x.npy", world());
    BOOST_CHECK(b.extents() == a.extents());
    bool right = true;
    for (std::size_t i = 0; i < rows; ++i) {
      right = right && b.data()[i] == static_cast<double>(i);
    }
    BOOST_CHECK(right);
  }
}

BOOST_AUTO_TEST_CASE(every_version_and_way_to_write_a_header_is_read)
{
  const folder in;
  for (const char version : {1, 2, 3}) {
    for (const char* text : {"{'descr': '<i4', 'fortran_order': False, 'shape': (3,), }  \n",
                             "{\"shape\":(3L, ),'fortran_order':False,\"descr\":\"<i4\"}\n"}) {
      write(in / "x.npy", npy_file(text, bytes_of({4, 5, 6}), version));
      const auto a = load<std::int32_t>(in / "x.npy", world());
      BOOST_CHECK_EQUAL(a.size(), 3);
      BOOST_CHECK_EQUAL(a.view()(2), 6);
    }
  }
}

BOOST_AUTO_TEST_CASE(what_is_no_such_file_is_refused_with_its_name_and_the_reason)
{
  const folder in;
  const std::string data = bytes_of({4, 5, 6});
  const std::pair<std::string, std::string> bad[] = {
      {"", "no .npy file"},
      {"text\n", "no .npy file"},
      {npy_file("{'descr': '<i4'}", data, 4), "no .npy file"},
      {npy_file("", data), "damaged"},
      {npy_file("[1, 2]", data), "damaged"},
      {npy_file("{'descr': '<i4', 'shape': (3,)}", data), "damaged"},
      {npy_file("{'descr': '<i4', 'fortran_order': Maybe, 'shape': (3,)}", data), "damaged"},
      {npy_file("{'descr': '<i4', 'fortran_order': False, 'shape': (-3,)}", data), "damaged"},
      {npy_file("{'descr': '<i4", data), "damaged"},
      {npy_file("{'descr': [('a', '<i4'", data), "damaged"},
      {npy_file("{'descr': '<i4', 'fortran_order': False, 'shape': (3,)}", data.substr(1)),
       "12 bytes of data are missing but for 11"},
      {npy_file("{'descr': '<i4', 'fortran_order': False, 'shape': (9000000000000000000,)}", data), "truncated"},
      {npy_file("{'descr': '>i4', 'fortran_order': False, 'shape': (3,)}", data), "'>i4', but '<i4'"},
      {npy_file("{'descr': '<f4', 'fortran_order': False, 'shape': (3,)}", data), "'<f4', but '<i4'"},
      {npy_file("{'descr': [('a', '<i4', (2,))], 'fortran_order': False, 'shape': (3,)}", data),
       "'[('a', '<i4', (2,))]', but"},
      {npy_file("{'descr': '<i4', 'fortran_order': False, 'shape': (3, 1)}", data), "shape (3, 1), but 1 dimension is"},
      {npy_file("{'descr': '<i4', 'fortran_order': False, 'shape': ()}", data), "shape (), but 1 dimension is"},
  };
  for (const auto& [content, reason] : bad) {
    write(in / "bad.npy", content);
    const std::string text = thrown<invalid_argument>([&] { (void)load<std::int32_t>(in / "bad.npy", world()); });
    contains(text, "bad.npy");
    contains(text, reason);
    MPI_Barrier(MPI_COMM_WORLD);
  }
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(a_missing_file_is_a_file_error)
{
  const folder in;
  try {
    (void)load<int>(in / "none.npy", world());
    BOOST_ERROR("nothing was thrown");
  } catch (const file_error& why) {
    BOOST_CHECK_EQUAL(why.code(), ENOENT);
    BOOST_CHECK_EQUAL(why.path(), in / "none.npy");
    contains(why.what(), "none.npy: No such file");
  }
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(what_one_rank_alone_cannot_open_is_told_to_all, *boost::unit_test::precondition(several_ranks))
{
  const folder in;
  const int odd = world().size() - 1;
  save(in / "x.npy", nodeshare::shared_array<int>(world(), {1000}));
  const auto call = [&] { (void)load<int>(in / (world().rank() == odd ? "none.npy" : "x.npy"), world()); };
  contains(world().rank() == odd ? thrown<file_error>(call) : thrown<peer_error>(call), "none.npy: No such file");
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(different_files_and_arrays_are_mismatches, *boost::unit_test::precondition(several_ranks))
{
  const folder in;
  const bool odd = world().rank() == world().size() - 1;
  const nodeshare::shared_array<int> a(world(), {3});
  const nodeshare::shared_array<int> b(world(), {4});
  save(in / "a.npy", a);
  save(in / "b.npy", b);
  contains(thrown<mismatch>([&] { (void)load<int>(in / (odd ? "a.npy" : "b.npy"), world()); }), "npy_test.cpp:");
  BOOST_CHECK_THROW(save(in / (odd ? "c.npy" : "d.npy"), a), mismatch);
  BOOST_CHECK_THROW(save(in / "c.npy", odd ? a : b), mismatch);
  check_still_works(world());
}

BOOST_AUTO_TEST_SUITE_END()
