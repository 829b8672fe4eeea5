// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/segment.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <thread>
#include <vector>

#include "support.hpp"

using namespace nodeshare;
using namespace nodeshare::test;

namespace {

std::size_t bytes_not_zero(const memory& one)
{
  return one->size_bytes() -
         static_cast<std::size_t>(std::count(one->data(), one->data() + one->size_bytes(), std::byte{0}));
}

/// 0 also where nothing is mapped.
std::size_t pages_present(std::byte* address, std::size_t bytes)
{
  std::vector<unsigned char> present(linux_api::round_up(bytes, linux_api::page_size()) / linux_api::page_size());
  ::mincore(address, bytes, present.data());
  return static_cast<std::size_t>(std::ranges::count_if(present, [](unsigned char page) { return (page & 1) != 0; }));
}
std::size_t pages_present(const memory& one) { return pages_present(one->data(), one->size_bytes()); }

/// Whether the kernel would let this rank write there.
bool writable(std::byte* address)
{
  const int zeros = ::open("/dev/zero", O_RDONLY | O_CLOEXEC);
  const bool out = ::read(zeros, address, 1) == 1;
  ::close(zeros);
  return out;
}

std::size_t lines_of_maps()
{
  std::ifstream maps("/proc/self/maps");
  return static_cast<std::size_t>(std::count(std::istreambuf_iterator<char>(maps), {}, '\n'));
}

}  // namespace

BOOST_AUTO_TEST_SUITE(segment)

BOOST_AUTO_TEST_CASE(memory_begins_on_a_page_and_is_zero)
{
  for (const std::size_t bytes :
       {std::size_t{0}, std::size_t{1}, std::size_t{4095}, std::size_t{4096}, std::size_t{4097}, 5 * megabyte + 1}) {
    const memory one = make(world(), bytes);
    BOOST_CHECK_EQUAL(reinterpret_cast<std::uintptr_t>(one->data()) % linux_api::page_size(), 0);
    BOOST_CHECK_EQUAL(one->size_bytes(), bytes);
    BOOST_CHECK_EQUAL(bytes_not_zero(one), 0);
  }
}

BOOST_AUTO_TEST_CASE(what_one_rank_writes_its_node_reads_and_no_other)
{
  const memory one = make(world(), 3 * megabyte);
  if (world().is_leader()) {
    std::memset(one->data(), world().node() + 1, one->size_bytes());
  }
  meet(one);
  const auto mine = static_cast<std::byte>(world().node() + 1);
  BOOST_CHECK_EQUAL(std::count(one->data(), one->data() + one->size_bytes(), mine), 3 * megabyte);
}

BOOST_AUTO_TEST_CASE(memory_is_zero_also_after_others_have_left_theirs_dirty)
{
  for (const bool reserve : {true, false}) {
    for (int round = 0; round < 10; ++round) {
      const memory one = make(world(), 2 * megabyte + 100, reserve);
      BOOST_CHECK_EQUAL(bytes_not_zero(one), 0);
      meet(one);
      std::memset(one->data(), 0xff, one->size_bytes());
      meet(one);
    }
  }
}

BOOST_AUTO_TEST_CASE(reserved_pages_are_present_and_others_are_not)
{
  const std::size_t pages = 16 * megabyte / linux_api::page_size();
  const memory reserved = make(world(), 16 * megabyte);
  BOOST_CHECK_EQUAL(pages_present(reserved), pages);
  const memory lazy = make(world(), 16 * megabyte, false);
  BOOST_CHECK_LT(pages_present(lazy), pages / 2);
}

BOOST_AUTO_TEST_CASE(reserved_pages_are_present_also_in_memory_whose_last_user_reserved_none)
{
  constexpr std::size_t bytes = 4 * megabyte;
  for (const char* kind : {"window", "memfd", "held-window"}) {
    const kind_of_memory where(kind);
    const auto home = node::of(where);
    const std::size_t idle = node::idle_bytes();
    (void)make(where, bytes);
    (void)make(where, bytes, false);
    home->meet(call("all have let go", ""));
    BOOST_CHECK_EQUAL(node::idle_bytes(), idle + bytes);
    const memory again = home->create(call("make", ""), {.bytes = bytes, .holds = content::unspecified});
    BOOST_CHECK_EQUAL(node::idle_bytes(), idle);
    BOOST_CHECK_EQUAL(pages_present(again), bytes / linux_api::page_size());
  }
}

BOOST_AUTO_TEST_CASE(trimmed_memory_is_given_back_although_a_forked_child_maps_it)
{
  constexpr std::size_t bytes = 4 * megabyte;
  for (const char* kind : {"window", "memfd"}) {
    const kind_of_memory where(kind);
    const auto home = node::of(where);
    std::byte* const idle = make(where, bytes)->data();
    home->meet(call("all have let go", ""));
    BOOST_CHECK_EQUAL(pages_present(idle, bytes), bytes / linux_api::page_size());
    int trimmed[2] = {-1, -1};
    BOOST_CHECK(::pipe(trimmed) == 0);
    const pid_t child = ::fork();
    if (child == 0) {
      char word = 0;
      const bool told = ::read(trimmed[0], &word, 1) == 1;
      void* const second = ::mremap(idle, 0, bytes, MREMAP_MAYMOVE);  // refused unless it is a mapping still
      ::_exit(told && second != MAP_FAILED && pages_present(idle, bytes) == 0 ? 0 : 1);
    }
    home->trim(call("trim", ""));
    BOOST_CHECK(::write(trimmed[1], "x", 1) == 1);
    int status = -1;
    ::waitpid(child, &status, 0);
    BOOST_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    ::close(trimmed[0]);
    ::close(trimmed[1]);
  }
}

BOOST_AUTO_TEST_CASE(its_number_is_the_same_on_every_rank_and_no_other_has_it)
{
  const memory a = make(world(), 8);
  const memory b = make(world(), 8);
  BOOST_CHECK(same_text(std::to_string(a->id())));
  BOOST_CHECK(a->id() != b->id());
  contains(a->description(), "make(8) at support.hpp:");
}

BOOST_AUTO_TEST_CASE(the_setting_chooses_the_kind_of_memory)
{
  for (const auto& [text, wanted] :
       {std::pair{"window", memory_kind::window}, std::pair{"memfd", memory_kind::memfd},
        std::pair{"held-window", memory_kind::held_window}}) {
    const setting here("NODESHARE_MEMORY", text);
    const own_comm comm;
    const topology t(comm);
    const memory one = make(t, megabyte);
    BOOST_CHECK(one->kind() == (t.node_size() == 1 ? memory_kind::memfd : wanted));
    if (t.is_leader()) {
      one->data()[megabyte - 1] = std::byte{7};
    }
    meet(one);
    BOOST_CHECK(one->data()[megabyte - 1] == std::byte{7});
  }
}

BOOST_AUTO_TEST_CASE(an_address_inside_finds_its_segment)
{
  const memory one = make(world(), 10000);
  BOOST_CHECK(find_segment(one->data()) == one);
  BOOST_CHECK(find_segment(one->data() + 9999) == one);
  BOOST_CHECK(find_segment(one->data() - 1) != one);
  BOOST_CHECK(find_segment(one->data() + 3 * linux_api::page_size()) != one);
  const int local = 0;
  BOOST_CHECK(find_segment(&local) == nullptr);
  BOOST_CHECK(find_segment(nullptr) == nullptr);
}

BOOST_AUTO_TEST_CASE(a_segment_that_was_let_go_is_not_found)
{
  memory one = make(world(), 10000);
  const std::byte* address = one->data();
  const std::size_t before = living_segments().size();
  one.reset();
  BOOST_CHECK(find_segment(address) == nullptr);
  BOOST_CHECK_EQUAL(living_segments().size(), before - 1);
}

BOOST_AUTO_TEST_CASE(holders_are_the_ranks_that_have_not_let_go)
{
  memory one = make(world(), 100);
  const auto home = one->home();
  BOOST_CHECK_EQUAL(one->holders(), static_cast<unsigned>(world().node_size()));
  home->meet(call("looked", ""));
  if (world().is_leader()) {
    one.reset();
  }
  home->meet(call("let go", ""));
  if (one) {
    BOOST_CHECK_EQUAL(one->holders(), static_cast<unsigned>(world().node_size() - 1));
  }
  home->meet(call("looked again", ""));
}

BOOST_AUTO_TEST_CASE(a_rank_keeps_its_memory_although_the_others_have_let_go)
{
  memory one = make(world(), megabyte);
  const auto home = one->home();
  one->data()[5] = std::byte{5};
  home->meet(call("written", ""));
  if (world().node_rank() != world().node_size() - 1) {
    one.reset();
  }
  const memory next = make(world(), megabyte);
  if (one) {
    BOOST_CHECK(one->data()[5] == std::byte{5});
  }
  BOOST_CHECK_EQUAL(bytes_not_zero(next), 0);
}

BOOST_AUTO_TEST_CASE(ranks_let_go_in_different_orders)
{
  for (int round = 0; round < 10; ++round) {
    std::vector<memory> many;
    for (std::size_t i = 0; i < 6; ++i) {
      many.push_back(make(world(), 1000 * i));
    }
    std::ranges::rotate(many, many.begin() + world().rank() % 6);
    if (world().rank() % 2 == 1) {
      std::ranges::reverse(many);
    }
    while (!many.empty()) {
      many.pop_back();
    }
  }
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(what_comes_and_goes_leaves_no_mapping_behind)
{
  (void)make(world(), 100);
  const std::size_t before = lines_of_maps();
  for (int round = 0; round < 100; ++round) {
    (void)make(world(), 10000, round % 2 == 0);
  }
  BOOST_CHECK_LT(lines_of_maps(), before + 50);
}

BOOST_AUTO_TEST_CASE(thousands_of_small_arrays_live_at_once)
{
  const bool quick = world().size() <= static_cast<int>(std::thread::hardware_concurrency());  // some MPIs only spin
  const std::size_t count = quick ? 3000 : 300;
  std::vector<memory> many;
  for (std::size_t i = 0; i < count; ++i) {
    many.push_back(make(world(), sizeof i));
    std::memcpy(many.back()->data(), &i, sizeof i);  // the same from all
  }
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < many.size(); ++i) {
    wrong += std::memcmp(many[i]->data(), &i, sizeof i) != 0 || find_segment(many[i]->data()) != many[i];
  }
  BOOST_CHECK_EQUAL(wrong, 0);
}

BOOST_AUTO_TEST_CASE(one_rank_protects_its_pages_while_another_writes)
{
  const memory one = make(world(), 100);
  const bool careful = world().node_rank() == 0;
  if (careful) {
    one->protect(true);
  }
  BOOST_CHECK_EQUAL(writable(one->data()), !careful);
  if (careful) {
    one->protect(false);
  }
  BOOST_CHECK(writable(one->data()));
}

BOOST_AUTO_TEST_CASE(pages_can_be_locked_and_synchronised)
{
  const memory one = make(world(), 100);
  BOOST_CHECK_NO_THROW(one->lock_pages());
  BOOST_CHECK_NO_THROW(one->unlock_pages());
  BOOST_CHECK_NO_THROW(one->synchronize_file());
}

BOOST_AUTO_TEST_CASE(a_forked_child_reads_but_takes_no_part)
{
  memory one = make(world(), 100);
  one->data()[0] = std::byte{9};
  meet(one);
  const auto home = one->home();
  const pid_t child = ::fork();
  if (child == 0) {
    const bool reads = one->data()[0] == std::byte{9};
    bool refused = false;
    try {
      home->meet(call("sync", ""));
    } catch (const error&) {
      refused = true;
    }
    one.reset();  // the child is no holder
    ::_exit(reads && refused ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  BOOST_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  BOOST_CHECK_EQUAL(one->holders(), static_cast<unsigned>(world().node_size()));
  home->meet(call("looked", ""));
}

BOOST_AUTO_TEST_SUITE_END()
