// SPDX-License-Identifier: BSD-3-Clause
// What a job does when the system refuses memory to one of its ranks, or to all.
#include "provider.hpp"

#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "meeting.hpp"
#include "support.hpp"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

using namespace nodeshare;
using namespace nodeshare::test;

namespace {

bool all_zero(const memory& one)
{
  return std::all_of(one->data(), one->data() + one->size_bytes(), [](std::byte b) { return b == std::byte{0}; });
}

/// 0 also where nothing is mapped.
std::size_t pages_present(std::byte* address, std::size_t bytes)
{
  std::vector<unsigned char> present(bytes / linux_api::page_size());
  ::mincore(address, bytes, present.data());
  return static_cast<std::size_t>(std::ranges::count_if(present, [](unsigned char page) { return (page & 1) != 0; }));
}

/// Fresh pages of a memfd.
std::byte* map_pages(std::size_t bytes)
{
  const int file = linux_api::calls.memfd_create("test");
  BOOST_CHECK(::ftruncate(file, static_cast<off_t>(bytes)) == 0);
  std::byte* const pages = linux_api::map_file(file, bytes);
  ::close(file);
  return pages;
}

/// What was opened last, and the child that has it, too.
int opened_userfaultfd = -1;
pid_t child_with_userfaultfd = -1;

int open_userfaultfd(int flags)
{
  opened_userfaultfd = static_cast<int>(::syscall(SYS_userfaultfd, flags));
  return opened_userfaultfd;
}

/// As if another thread had forked a child before the file is closed.
int open_userfaultfd_and_fork(int flags)
{
  const int watch = open_userfaultfd(flags);
  child_with_userfaultfd = ::fork();
  if (child_with_userfaultfd == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    while (true) {
      ::pause();
    }
  }
  return watch;
}

answer pages_by_userfaultfd(boost::unit_test::test_unit_id)
{
  opened_userfaultfd = -1;
  const replaced see(linux_api::calls.userfaultfd, &open_userfaultfd);
  std::byte* const pages = map_pages(2 * megabyte);
  (void)linux_api::populate(pages, 2 * megabyte);
  linux_api::unmap(pages, 2 * megabyte);
  return needs(on_all(opened_userfaultfd >= 0), "userfaultfd, and pages of the usual size");
}

/// Whether somebody is to be asked what comes in a missing page there: /proc/self/smaps says `um`.
bool is_watched(const std::byte* address, std::size_t bytes)
{
  const auto first = reinterpret_cast<std::uintptr_t>(address);
  std::ifstream maps("/proc/self/smaps");
  bool here = false;
  bool watched = false;
  std::size_t seen = 0;
  for (std::string line; std::getline(maps, line);) {
    unsigned long from = 0;
    unsigned long to = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx ", &from, &to) == 2) {
      here = from < first + bytes && first < to;
    } else if (here && line.starts_with("VmFlags:")) {
      ++seen;
      watched = watched || (line + ' ').find(" um ") != std::string::npos;
    }
  }
  BOOST_CHECK_GT(seen, 0);
  return watched;
}

int full(const char* path, struct statvfs* out)
{
  const int code = ::statvfs(path, out);
  out->f_bavail = 0;
  return code;
}

template <int Error>
int no_page_left(void* address, std::size_t bytes, int advice)
{
  if (advice == MADV_POPULATE_WRITE) {
    errno = Error;
    return -1;
  }
  return ::madvise(address, bytes, advice);
}

int no_punching(void* address, std::size_t bytes, int advice)
{
  if (advice == MADV_REMOVE) {
    errno = EOPNOTSUPP;
    return -1;
  }
  return ::madvise(address, bytes, advice);
}

template <int Error>
int no_memfd(const char*)
{
  errno = Error;
  return -1;
}

void* no_mapping(std::size_t, int)
{
  errno = ENOMEM;
  return MAP_FAILED;
}

void* no_alias(void*, std::size_t)
{
  errno = EINVAL;
  return MAP_FAILED;
}

/// Collective over the communicator. All ranks are told of the same lack of memory, nothing stays, and life goes on.
void check_out_of_memory_everywhere(const topology& where, const std::string& reason)
{
  const std::size_t alive = living_segments().size();
  const std::string text = thrown<out_of_shared_memory>([&] { make(where, 3 * megabyte); });
  contains(text, "make needs 3 MiB on each node");
  contains(text, reason);
  BOOST_CHECK(same_text(text));
  BOOST_CHECK_EQUAL(living_segments().size(), alive);
}

/// Rank 0's bytes in memory of one kind, new at first, then used.
void check_filled(const topology& where, std::size_t bytes)
{
  std::vector<std::byte> mine(where.rank() == 0 ? bytes : 0);
  for (std::size_t i = 0; i < mine.size(); ++i) {
    mine[i] = static_cast<std::byte>(i * 7 + i / 4096);
  }
  std::vector<source_piece> pieces;  // of all sizes, none too
  for (std::size_t done = 0, size = 1; done < mine.size(); size = size * 5 % 6'000'011) {
    const std::size_t now = std::min(size - 1, mine.size() - done);
    pieces.push_back({done, now, mine.data() + done});
    done += now;
  }
  for (int time = 0; time < 2; ++time) {
    const memory one = node::of(where)->create(call("make", ""), {.bytes = bytes, .source = 0, .data = pieces});
    if (where.node() == 0) {
      bool right = true;
      for (std::size_t i = 0; i < bytes; ++i) {
        right = right && one->data()[i] == static_cast<std::byte>(i * 7 + i / 4096);
      }
      BOOST_CHECK(right);
    }
    node::of(where)->meet(call("seen", ""));
  }
  node::of(where)->trim(call("trim", ""));
}

ssize_t forbidden(pid_t, const iovec*, unsigned long, const iovec*, unsigned long, unsigned long)
{
  errno = EPERM;
  return -1;
}

const char* const kinds[] = {"auto", "window", "memfd", "held-window"};

}  // namespace

BOOST_AUTO_TEST_SUITE(provider)

BOOST_AUTO_TEST_CASE(pages_missing_on_one_rank_are_out_of_memory_on_every_rank)
{
  for (const char* kind : kinds) {
    const kind_of_memory where(kind);
    for (const int rank : {0, world().size() - 1}) {
      {
        const replaced fail(linux_api::calls.madvise, &no_page_left<EFAULT>, world().rank() == rank);
        check_out_of_memory_everywhere(where, "rank " + std::to_string(rank) + " on ");
      }
      check_still_works(where);
    }
  }
}

BOOST_AUTO_TEST_CASE(one_rank_s_bytes_come_into_memory_also_where_processes_may_not_read_each_other)
{
  for (const char* kind : kinds) {
    const kind_of_memory where(kind);
    for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, megabyte, 13 * megabyte + 5}) {
      check_filled(where, bytes);
      {
        const replaced refuse(linux_api::calls.process_vm_readv, &forbidden);
        check_filled(where, bytes);
      }
      const replaced refuse_one(linux_api::calls.process_vm_readv, &forbidden, world().rank() == world().size() - 1);
      check_filled(where, bytes);
    }
  }
}

BOOST_AUTO_TEST_CASE(pages_missing_while_one_rank_s_bytes_are_copied_are_out_of_memory_on_every_rank)
{
  const std::vector<std::byte> mine(9 * megabyte);
  const source_piece all{0, mine.size(), mine.data()};
  for (const char* kind : {"auto", "window"}) {
    const kind_of_memory where(kind);
    {
      const replaced fail(linux_api::calls.madvise, &no_page_left<EFAULT>);
      BOOST_CHECK_THROW(
          node::of(where)->create(call("make", ""), {.bytes = mine.size(), .source = 0, .data = {&all, 1}}),
          out_of_shared_memory);
    }
    check_still_works(where);
  }
}

BOOST_AUTO_TEST_CASE(pages_are_made_present_also_where_userfaultfd_is_forbidden)
{
  for (const char* kind : kinds) {
    const kind_of_memory where(kind);
    const replaced forbid(linux_api::calls.userfaultfd, &no_userfaultfd);
    BOOST_CHECK(all_zero(make(where, 3 * megabyte)));
    check_filled(where, 13 * megabyte + 5);
  }
}

BOOST_AUTO_TEST_CASE(pages_that_were_there_before_keep_what_they_hold)
{
  constexpr std::size_t bytes = 9 * megabyte;
  std::byte* const pages = map_pages(bytes);
  for (const std::size_t place : {std::size_t{0}, bytes / 2 - 1, bytes / 3, bytes - 1}) {
    pages[place] = std::byte{7};
    BOOST_CHECK(!linux_api::populate(pages, bytes));
    BOOST_CHECK(std::count(pages, pages + bytes, std::byte{7}) == 1);
    BOOST_CHECK_EQUAL(pages_present(pages, bytes), bytes / linux_api::page_size());
    BOOST_CHECK(linux_api::punch(pages, bytes));
  }
  linux_api::unmap(pages, bytes);
}

BOOST_AUTO_TEST_CASE(pages_are_nobody_else_s_although_a_child_was_forked_while_they_were_made_present,
                     *boost::unit_test::precondition(pages_by_userfaultfd))
{
  constexpr std::size_t bytes = 4 * megabyte;
  std::byte* const pages = map_pages(bytes);
  {
    const replaced fork(linux_api::calls.userfaultfd, &open_userfaultfd_and_fork);
    BOOST_CHECK(!linux_api::populate(pages, bytes));
  }
  BOOST_CHECK_GT(child_with_userfaultfd, 0);
  BOOST_CHECK_EQUAL(pages_present(pages, bytes), bytes / linux_api::page_size());
  BOOST_CHECK(linux_api::punch(pages, bytes));
  const bool watched = is_watched(pages, bytes);
  BOOST_CHECK(!watched);
  if (!watched) {  // or the touch would wait for ever
    pages[bytes / 3] = std::byte{1};
    BOOST_CHECK(pages[bytes / 3] == std::byte{1});
  }
  ::kill(child_with_userfaultfd, SIGKILL);
  ::waitpid(child_with_userfaultfd, nullptr, 0);
  linux_api::unmap(pages, bytes);
}

BOOST_AUTO_TEST_CASE(on_older_systems_pages_are_made_present_by_reading_zeros)
{
  const kind_of_memory where("auto");
  const replaced old(linux_api::calls.madvise, &no_page_left<EINVAL>);
  const memory one = make(where, 3 * megabyte);
  BOOST_CHECK(all_zero(one));
  check_still_works(where);
}

BOOST_AUTO_TEST_CASE(on_older_systems_memory_is_not_forgotten_when_the_places_for_it_are_gone_through_again)
{
  const own_comm comm(world().rank(), 0);  // this rank alone
  const topology alone(comm);
  const replaced old(linux_api::calls.madvise, &no_page_left<EINVAL>);
  const control_page& page = node::of(alone)->meetings().page();
  const auto per_page = static_cast<std::uint32_t>(linux_api::page_size() / sizeof(page.word_of(0)));
  constexpr std::uint64_t as_if_used = segment_word::holder + segment_word::mapping;
  std::vector<memory> all{make(alone, 1, false)};
  std::vector<std::uint32_t> pretended;
  const auto use = [&](std::uint32_t first, std::uint32_t last) {
    for (std::uint32_t place = first; place < last; ++place) {
      page.word_of(place).store(as_if_used);
      pretended.push_back(place);
    }
  };
  all.push_back(make(alone, 1, false));
  use(2, per_page);
  for (std::uint32_t place = per_page; place < most_segments; place += per_page) {
    all.push_back(make(alone, 1, false));
    use(place + 1, place + per_page);
  }
  page.word_of(2).store(0);
  pretended.erase(pretended.begin());
  all.push_back(make(alone, 1, false));
  for (const memory& one : all) {
    BOOST_CHECK_EQUAL(one->holders(), 1);
  }
  BOOST_CHECK_EQUAL(page.word_of(2).load(), page.word_of(1).load());  // the last one came here
  for (const std::uint32_t place : pretended) {
    page.word_of(place).store(0);
  }
}

BOOST_AUTO_TEST_CASE(idle_memory_of_all_ranks_gives_way_where_one_rank_finds_none,
                     *boost::unit_test::precondition(a_crowded_node))
{
  constexpr std::size_t bytes = 4 * megabyte;
  const topology alone(MPI_COMM_SELF);
  (void)node::of(alone);
  for (const char* kind : {"window", "memfd"}) {
    const kind_of_memory where(kind);
    const topology& t = where;
    std::byte* const idle = make(where, bytes)->data();
    node::of(where)->meet(call("all have let go", ""));
    BOOST_CHECK_EQUAL(pages_present(idle, bytes), bytes / linux_api::page_size());
    MPI_Barrier(t.comm());
    if (t.node_rank() == t.node_size() - 1) {
      const replaced fail(linux_api::calls.madvise, &no_page_left<EFAULT>);
      BOOST_CHECK_THROW(make(alone, megabyte), out_of_shared_memory);
    }
    MPI_Barrier(t.comm());
    BOOST_CHECK_EQUAL(pages_present(idle, bytes), 0);
  }
}

BOOST_AUTO_TEST_CASE(memory_is_zero_also_where_pages_cannot_be_given_back)
{
  for (const bool reserve : {true, false}) {
    const replaced refuse(linux_api::calls.madvise, &no_punching);
    BOOST_CHECK(all_zero(make(world(), 3 * megabyte, reserve)));
  }
}

BOOST_AUTO_TEST_CASE(without_a_file_left_for_a_memfd_every_rank_is_out_of_memory)
{
  const kind_of_memory where("memfd");
  {
    const replaced fail(linux_api::calls.memfd_create, &no_memfd<EMFILE>);
    check_out_of_memory_everywhere(where, "memfd_create failed");
  }
  check_still_works(where);
}

BOOST_AUTO_TEST_CASE(a_memfd_refused_to_one_leader_is_an_error_on_every_rank)
{
  const kind_of_memory where("memfd");
  for (const int leader : {0, world().ranks_on(world().nodes() - 1)[0]}) {
    {
      node::of(where)->trim(call("trim", ""));
      const replaced fail(linux_api::calls.memfd_create, &no_memfd<ENOSYS>, world().rank() == leader);
      BOOST_CHECK_THROW(make(where, 100), error);
    }
    check_still_works(where);
  }
}

BOOST_AUTO_TEST_CASE(a_mapping_refused_to_one_rank_is_out_of_memory_on_every_rank)
{
  const kind_of_memory where("memfd");
  for (const int rank : {0, world().size() - 1}) {
    {
      const replaced fail(linux_api::calls.mmap, &no_mapping, world().rank() == rank);
      check_out_of_memory_everywhere(where, "rank " + std::to_string(rank) + " on ");
    }
    check_still_works(where);
  }
}

BOOST_AUTO_TEST_CASE(an_alias_refused_to_all_ranks_is_an_error_that_says_what_to_set,
                     *boost::unit_test::precondition(a_crowded_node))
{
  const kind_of_memory where("window");
  {
    const replaced fail(linux_api::calls.mremap, &no_alias);
    std::string text;
    try {
      make(where, 100);
    } catch (const error& why) {
      text = why.what();
    }
    contains(text, "NODESHARE_MEMORY=memfd");
  }
  check_still_works(where);
}

BOOST_AUTO_TEST_CASE(an_alias_refused_to_one_rank_ends_the_creation_on_all,
                     *boost::unit_test::precondition(a_crowded_node))
{
  const kind_of_memory where("window");
  const int rank = world().ranks_on(*crowded_node()).back();
  {
    const replaced fail(linux_api::calls.mremap, &no_alias, world().rank() == rank);
    const std::string text = world().rank() == rank ? thrown<error>([&] { make(where, 100); })
                                                    : thrown<peer_error>([&] { make(where, 100); });
    contains(text, "cannot be mapped a second time");
  }
  check_still_works(where);
}

BOOST_AUTO_TEST_CASE(where_windows_cannot_be_had_on_some_ranks_all_take_a_memfd)
{
  for (const int rank : {0, world().size() - 1}) {
    const replaced fail(linux_api::calls.mremap, &no_alias, world().rank() >= rank);
    const kind_of_memory where("auto");
    const memory one = make(where, 100);
    BOOST_CHECK(one->kind() == memory_kind::memfd || world().node() != world().node_of(world().size() - 1));
  }
}

BOOST_AUTO_TEST_CASE(a_full_file_system_of_windows_is_out_of_memory_that_names_it,
                     *boost::unit_test::precondition(a_crowded_node))
{
  const kind_of_memory where("window");
  {
    const replaced fail(linux_api::calls.statvfs, &full);
    check_out_of_memory_everywhere(where, "are free in /");
  }
  check_still_works(where);
}

BOOST_AUTO_TEST_CASE(where_windows_find_no_room_on_one_rank_all_take_a_memfd)
{
  const kind_of_memory where("auto");
  const int rank = world().size() - 1;
  {
    const replaced fail(linux_api::calls.statvfs, &full, world().rank() == rank);
    const memory one = make(where, megabyte);
    if (world().node() == world().node_of(rank)) {
      BOOST_CHECK(one->kind() == memory_kind::memfd);
    }
  }
  check_still_works(where);
}

BOOST_AUTO_TEST_CASE(where_windows_find_no_room_at_all_a_communicator_begins_with_memfds)
{
  const replaced fail(linux_api::calls.statvfs, &full);
  const kind_of_memory where("auto");
  BOOST_CHECK(make(where, 100)->kind() == memory_kind::memfd);
  check_still_works(where);
}

BOOST_AUTO_TEST_CASE(a_control_page_that_cannot_be_made_throws_on_every_rank_and_can_be_tried_again)
{
  const setting memfd("NODESHARE_MEMORY", "memfd");
  const own_comm comm;
  const topology where(comm);
  {
    const replaced fail(linux_api::calls.madvise, &no_page_left<EFAULT>, world().rank() == 0);
    const std::string text = thrown<out_of_shared_memory>([&] { make(where, 100); });
    contains(text, "control page");
    BOOST_CHECK(same_text(text));
  }
  {
    const replaced fail(linux_api::calls.memfd_create, &no_memfd<EMFILE>, world().is_leader());
    BOOST_CHECK_THROW(make(where, 100), out_of_shared_memory);
  }
  {
    const replaced fail(linux_api::calls.mmap, &no_mapping, world().rank() == world().size() - 1);
    BOOST_CHECK_THROW(make(where, 100), out_of_shared_memory);
  }
  check_still_works(where);
}

BOOST_AUTO_TEST_SUITE_END()
