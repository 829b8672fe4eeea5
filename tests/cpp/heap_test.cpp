// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/heap.hpp"

#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <mutex>
#include <random>
#include <thread>
#include <vector>

#include "support.hpp"

using namespace nodeshare;
using namespace nodeshare::test;

namespace {

const topology& alone()
{
  static const topology one(MPI_COMM_SELF);
  return one;
}

/// Bytes that tell which block they are of.
void fill(std::span<std::byte> bytes, std::uint64_t number)
{
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] = static_cast<std::byte>(number + i * 7);
  }
}

bool holds(std::span<const std::byte> bytes, std::uint64_t number)
{
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    if (bytes[i] != static_cast<std::byte>(number + i * 7)) {
      return false;
    }
  }
  return true;
}

/// Runs in a forked child, which is then killed or ends; returns its status.
template <class Work>
int in_child(Work&& work)
{
  const pid_t child = ::fork();
  if (child == 0) {
    bool right = false;
    try {
      right = work();
    } catch (...) {
    }
    ::_exit(right ? 0 : 1);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  return status;
}

int no_pages(void*, std::size_t, int advice)
{
  errno = advice == MADV_HUGEPAGE || advice == MADV_DONTDUMP ? 0 : EFAULT;
  return errno == 0 ? 0 : -1;
}

int few_pages(void* address, std::size_t bytes, int advice)
{
  return bytes > 4 * megabyte ? no_pages(address, bytes, advice) : ::madvise(address, bytes, advice);
}

int killed_here(void*, std::size_t, int)
{
  ::kill(::getpid(), SIGKILL);
  return 0;
}

/// A slot of a table that all ranks of a node know.
struct slot {
  heap::block block;
  std::uint64_t number;
  std::uint64_t bytes;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(heap)

BOOST_AUTO_TEST_CASE(what_one_rank_allocates_the_others_see)
{
  nodeshare::heap h(here(), megabyte);
  const shared_array<nodeshare::heap::block> told(here(), {1});
  if (here().is_leader()) {
    const auto one = h.allocate(1000);
    fill(h.at(one), one.number);
    told.view()(0) = one;
  }
  barrier_of_node();
  const nodeshare::heap::block one = told.view()(0);
  {
    const heap_view seen = h.view(one);
    BOOST_CHECK_EQUAL(seen.size_bytes(), 1000);
    BOOST_CHECK(holds(seen.bytes(), one.number));
    BOOST_CHECK_EQUAL(h.at(one).data(), seen.data());
    barrier_of_node();
    BOOST_CHECK_EQUAL(h.usage().views, here().size());
    barrier_of_node();
  }
  barrier_of_node();
  BOOST_CHECK_EQUAL(h.usage().views, 0);
}

BOOST_AUTO_TEST_CASE(blocks_are_aligned_and_apart_whatever_their_size)
{
  nodeshare::heap h(alone(), 8 * megabyte);
  const std::size_t empty = h.usage().used;
  std::vector<nodeshare::heap::block> blocks;
  for (const std::size_t bytes : {0, 0, 1, 7, 8, 9, 63, 64, 65, 4095, 4096, 4097, 3'000'000}) {
    blocks.push_back(h.allocate(bytes));
    BOOST_CHECK_EQUAL(h.at(blocks.back()).size(), bytes);
    BOOST_CHECK_EQUAL(reinterpret_cast<std::uintptr_t>(h.at(blocks.back()).data()) % nodeshare::heap::alignment, 0);
    fill(h.at(blocks.back()), blocks.back().number);
  }
  BOOST_CHECK(blocks[0] != blocks[1] && h.at(blocks[0]).data() != h.at(blocks[1]).data());
  BOOST_CHECK_EQUAL(h.usage().blocks, blocks.size());
  for (const auto one : blocks) {
    BOOST_CHECK(holds(h.at(one), one.number));
    h.release(one);
  }
  BOOST_CHECK_EQUAL(h.usage().used, empty);
  BOOST_CHECK_EQUAL(h.usage().blocks, 0);
}

BOOST_AUTO_TEST_CASE(a_view_keeps_what_was_released)
{
  nodeshare::heap h(alone(), megabyte);
  const std::size_t empty = h.usage().used;
  const auto one = h.allocate(1000);
  fill(h.at(one), 1);
  heap_view first = h.view(one);
  heap_view second = h.view(one);
  h.release(one);
  contains(thrown<invalid_argument>([&] { (void)h.view(one); }), "was released");
  thrown<invalid_argument>([&] { (void)h.at(one); });
  thrown<invalid_argument>([&] { h.release(one); });
  first = {};
  BOOST_CHECK_EQUAL(h.usage().blocks, 1);
  const auto other = h.allocate(1000);
  fill(h.at(other), 2);
  BOOST_CHECK(holds(second.bytes(), 1));
  BOOST_CHECK_EQUAL(reinterpret_cast<std::uintptr_t>(second.data()) % nodeshare::heap::alignment, 0);
  heap_view moved = std::move(second);
  BOOST_CHECK_EQUAL(second.data(), static_cast<std::byte*>(nullptr));  // NOLINT(bugprone-use-after-move)
  BOOST_CHECK(holds(moved.bytes(), 1));
  h.release(other);
  moved = {};
  BOOST_CHECK_EQUAL(h.usage().blocks, 0);
  BOOST_CHECK_EQUAL(h.usage().used, empty);
}

BOOST_AUTO_TEST_CASE(a_view_outlives_the_heap)
{
  heap_view kept;
  {
    nodeshare::heap h(here(), megabyte);
    const auto one = h.allocate(100);
    fill(h.at(one), one.number);
    kept = h.view(one);
    h.release(one);
    barrier_of_node();
  }
  check_still_works(here());
  BOOST_CHECK_EQUAL(kept.size_bytes(), 100);
  BOOST_CHECK(holds(kept.bytes(), static_cast<std::uint64_t>(kept.bytes()[0])));
}

BOOST_AUTO_TEST_CASE(what_is_no_block_is_refused)
{
  nodeshare::heap h(alone(), megabyte);
  const auto one = h.allocate(1);
  contains(thrown<invalid_argument>([&] { (void)h.view({}); }), "no block");
  for (const nodeshare::heap::block wrong :
       {nodeshare::heap::block{one.offset, one.number + 1}, nodeshare::heap::block{one.offset + 1, one.number},
        nodeshare::heap::block{0, one.number}, nodeshare::heap::block{std::uint64_t{1} << 60, one.number}}) {
    contains(thrown<invalid_argument>([&] { (void)h.at(wrong); }), "of another heap");
    thrown<invalid_argument>([&] { h.release(wrong); });
  }
  thrown<invalid_argument>([&] { const nodeshare::heap none(make(alone(), 4096)); });
  h.release(one);
}

BOOST_AUTO_TEST_CASE(a_full_heap_says_so_and_goes_on)
{
  nodeshare::heap h(alone(), megabyte);
  const auto kept = h.allocate(1000);
  fill(h.at(kept), 1);
  const auto before = h.usage();
  for (const std::size_t bytes : {before.largest_free + 1, megabyte, ~std::size_t{0}}) {
    const std::string text = thrown<out_of_shared_memory>([&] { (void)h.allocate(bytes); });
    contains(text, "heap(1048576 bytes) at heap_test.cpp:");
    contains(text, "capacity of 1 MiB");
    contains(text, "is the largest block to be had");
  }
  BOOST_CHECK_EQUAL(h.usage().used, before.used);
  const auto all = h.allocate(before.largest_free);
  std::vector<nodeshare::heap::block> small;
  try {
    while (small.size() < megabyte) {
      small.push_back(h.allocate(0));
    }
  } catch (const out_of_shared_memory&) {
  }
  BOOST_CHECK_LT(small.size(), 3);
  BOOST_CHECK_EQUAL(h.usage().largest_free, 0);
  BOOST_CHECK(holds(h.view(kept).bytes(), 1));  // a full heap can be read
  h.release(all);
  for (const auto one : small) {
    h.release(one);
  }
  BOOST_CHECK_EQUAL(h.usage().largest_free, before.largest_free);
}

BOOST_AUTO_TEST_CASE(it_takes_memory_as_it_needs_it)
{
  nodeshare::heap h(alone(), std::size_t{1} << 33);
  BOOST_CHECK_EQUAL(h.capacity(), std::size_t{1} << 33);
  BOOST_CHECK_LE(h.usage().present, megabyte);
  BOOST_CHECK_GT(h.usage().largest_free, (std::size_t{1} << 33) - 2 * megabyte);
  const auto large = h.allocate(20 * megabyte);
  fill(h.at(large), 1);
  BOOST_CHECK_LE(h.usage().present, 32 * megabyte);
  const auto more = h.allocate(5 * megabyte);
  BOOST_CHECK(holds(h.at(large), 1));
  h.release(large);
  h.release(more);
}

BOOST_AUTO_TEST_CASE(its_last_part_is_one_block_with_what_is_free_before)
{
  nodeshare::heap h(alone(), 10 * megabyte);
  const auto small = h.allocate(megabyte / 2);
  const auto large = h.allocate(9 * megabyte);
  fill(h.at(large), 1);
  BOOST_CHECK_EQUAL(h.usage().present, 10 * megabyte);
  h.release(small);
  h.release(large);
}

BOOST_AUTO_TEST_CASE(a_system_without_memory_is_an_error_and_changes_nothing)
{
  nodeshare::heap h(alone(), 64 * megabyte);
  const auto one = h.allocate(1000);
  fill(h.at(one), 1);
  const auto before = h.usage();
  {
    const replaced<decltype(linux_api::calls.madvise)> refused(linux_api::calls.madvise, no_pages);
    contains(thrown<out_of_shared_memory>([&] { (void)h.allocate(8 * megabyte); }), "a block of 8 MiB of heap(");
    BOOST_CHECK_EQUAL(h.usage().used, before.used);
    h.release(h.allocate(100));  // what is there is there
  }
  const auto large = h.allocate(8 * megabyte);
  BOOST_CHECK(holds(h.at(one), 1));
  h.release(one);
  h.release(large);
}

BOOST_AUTO_TEST_CASE(where_little_memory_is_left_it_takes_what_it_needs)
{
  nodeshare::heap h(alone(), 256 * megabyte);
  const auto large = h.allocate(20 * megabyte);
  const auto before = h.usage();
  const replaced<decltype(linux_api::calls.madvise)> scarce(linux_api::calls.madvise, few_pages);
  const replaced forbid(linux_api::calls.userfaultfd, &no_userfaultfd);
  const auto one = h.allocate(2 * megabyte);
  fill(h.at(one), 1);
  BOOST_CHECK_GT(h.usage().present, before.present);
  BOOST_CHECK_LT(h.usage().present, before.present + 4 * megabyte);
  thrown<out_of_shared_memory>([&] { (void)h.allocate(5 * megabyte); });
  h.release(one);
  h.release(large);
}

BOOST_AUTO_TEST_CASE(without_memory_at_its_beginning_it_is_refused_by_all)
{
  {
    const replaced<decltype(linux_api::calls.madvise)> refused(linux_api::calls.madvise, no_pages, here().is_leader());
    BOOST_CHECK_THROW(const nodeshare::heap h(here(), megabyte), error);
  }
  BOOST_CHECK_THROW(const nodeshare::heap h(here(), ~std::size_t{0}), out_of_shared_memory);
  check_still_works(here());
}

BOOST_AUTO_TEST_CASE(ranks_that_want_different_ones_hear_of_it, *boost::unit_test::precondition(a_crowded_node))
{
  if (here().size() > 1) {
    BOOST_CHECK_THROW(const nodeshare::heap h(here(), here().is_leader() ? megabyte : 2 * megabyte), mismatch);
    check_still_works(here());
  }
}

BOOST_AUTO_TEST_CASE(on_several_nodes_it_is_refused_by_all, *boost::unit_test::precondition(several_nodes))
{
  const std::string text = thrown<invalid_argument>([] { nodeshare::heap h(world(), megabyte); });
  contains(text, "topology().node_comm");
  BOOST_CHECK(same_text(text));
  check_still_works(world());
}

BOOST_AUTO_TEST_CASE(all_ranks_replace_and_read_at_once)
{
  constexpr std::size_t slots = 64;
  const int turns = 30'000 / here().size();
  nodeshare::heap h(here(), 16 * megabyte);
  nodeshare::mutex guard(here());
  const shared_array<slot> table(here(), {slots});
  const std::size_t empty = h.usage().used;
  barrier_of_node();
  std::mt19937 random(static_cast<unsigned>(here().rank()));
  std::vector<std::pair<heap_view, std::uint64_t>> kept(8);
  std::size_t wrong = 0;
  for (int turn = 0; turn < turns; ++turn) {
    slot& one = table.view()(random() % slots);
    auto& [view, number] = kept[random() % kept.size()];
    const std::size_t bytes = random() % 100 == 0 ? random() % 50'000 : random() % 500;
    wrong += !holds(view.bytes(), number);
    const std::scoped_lock hold(guard);
    if (one.block && random() % 2 == 0) {
      view = h.view(one.block);
      number = one.number;
      wrong += view.size_bytes() != one.bytes || !holds(view.bytes(), number);
      continue;
    }
    if (one.block) {
      h.release(one.block);
    }
    one = {h.allocate(bytes), random(), bytes};
    fill(h.at(one.block), one.number);
  }
  for (const auto& [view, number] : kept) {
    wrong += !holds(view.bytes(), number);
  }
  kept.clear();
  BOOST_CHECK_EQUAL(wrong, 0);
  barrier_of_node();
  if (here().is_leader()) {
    for (slot& one : table.view().span()) {
      if (one.block) {
        BOOST_CHECK(holds(h.at(one.block), one.number));
        h.release(one.block);
      }
    }
    const auto after = h.usage();
    BOOST_CHECK_EQUAL(after.used, empty);
    BOOST_CHECK_EQUAL(after.views, 0);
    BOOST_CHECK_EQUAL(after.blocks, 0);
    BOOST_CHECK_LE(after.present, 8 * megabyte);
  }
  barrier_of_node();
}

BOOST_AUTO_TEST_CASE(memory_stays_flat_over_many_operations)
{
  nodeshare::heap h(here(), 64 * megabyte);
  std::mt19937 random(static_cast<unsigned>(here().rank()));
  std::vector<nodeshare::heap::block> mine(10);
  std::vector<heap_view> views(10);
  const int turns = 120'000 / here().size();
  for (int turn = 0; turn < turns; ++turn) {
    auto& one = mine[random() % mine.size()];
    if (one) {
      views[random() % views.size()] = h.view(one);
      h.release(one);
    }
    one = h.allocate(random() % 1000);
  }
  BOOST_CHECK_LE(h.usage().present, megabyte);
  views.clear();
  for (const auto one : mine) {
    h.release(one);
  }
  barrier_of_node();
  BOOST_CHECK_EQUAL(h.usage().blocks, 0);
}

BOOST_AUTO_TEST_CASE(views_beyond_the_first_table_are_noted_and_used_again)
{
  nodeshare::heap h(alone(), megabyte);
  const auto one = h.allocate(10);
  std::vector<heap_view> views;
  for (int round = 0; round < 3; ++round) {
    std::string text;
    try {
      while (true) {
        views.push_back(h.view(one));
      }
    } catch (const out_of_shared_memory& error) {
      text = error.what();
    }
    contains(text, "65536 views of heap(");
    BOOST_CHECK_EQUAL(views.size(), 65536);
    BOOST_CHECK_EQUAL(h.usage().views, 65536);
    views.clear();
  }
  BOOST_CHECK_EQUAL(h.usage().views, 0);
}

BOOST_AUTO_TEST_CASE(threads_of_a_rank_use_it_at_once)
{
  nodeshare::heap h(alone(), megabyte);
  const std::size_t empty = h.usage().used;
  std::atomic<int> wrong = 0;  // Boost checks on one thread
  const auto work = [&](std::uint64_t number) {
    for (int i = 0; i < 2000; ++i) {
      const auto one = h.allocate(100 + i % 10);
      fill(h.at(one), number);
      const heap_view seen = h.view(one);
      h.release(one);
      wrong += holds(seen.bytes(), number) ? 0 : 1;
    }
  };
  std::thread other(work, 1);
  work(2);
  other.join();
  BOOST_CHECK_EQUAL(wrong.load(), 0);
  BOOST_CHECK_EQUAL(h.usage().used, empty);
}

BOOST_AUTO_TEST_CASE(a_forked_child_takes_part_and_its_parent_s_views_are_not_its_own)
{
  nodeshare::heap h(alone(), megabyte);
  const shared_array<nodeshare::heap::block> told(alone(), {1});
  const auto one = h.allocate(100);
  fill(h.at(one), 1);
  heap_view mine = h.view(one);
  BOOST_CHECK_EQUAL(in_child([&] {
                      mine = {};
                      const heap_view own = h.view(one);
                      const auto made = h.allocate(50);
                      fill(h.at(made), 2);
                      told.view()(0) = made;
                      return holds(own.bytes(), 1) && h.usage().views == 2;
                    }),
                    0);
  BOOST_CHECK_EQUAL(h.usage().views, 1);
  BOOST_CHECK(holds(h.at(told.view()(0)), 2));
  h.release(one);
  h.release(h.allocate(100));
  BOOST_CHECK(holds(mine.bytes(), 1));
}

BOOST_AUTO_TEST_CASE(views_of_a_killed_process_are_cleared_when_memory_is_short)
{
  nodeshare::heap h(alone(), megabyte);
  const std::size_t most = h.usage().largest_free;
  const auto large = h.allocate(most / 2);
  const int status = in_child([&] {
    const heap_view kept = h.view(large);
    const heap_view again = h.view(large);
    ::kill(::getpid(), SIGKILL);
    return false;
  });
  BOOST_CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  h.release(large);
  h.release(h.allocate(most));
  BOOST_CHECK_EQUAL(h.usage().views, 0);
}

BOOST_AUTO_TEST_CASE(kill_9_within_a_call_leaves_it_to_nobody)
{
  nodeshare::heap h(here(), 64 * megabyte);
  const auto one = h.allocate(100);
  fill(h.at(one), 1);
  heap_view kept = h.view(one);
  barrier_of_node();
  if (here().is_leader()) {
    const int status = in_child([&] {
      linux_api::calls.madvise = killed_here;  // where it grows
      (void)h.allocate(8 * megabyte);
      return false;
    });
    BOOST_CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
  }
  barrier_of_node();
  for (int i = 0; i < 2; ++i) {
    const std::string text = thrown<peer_error>([&] { (void)h.allocate(1); });
    contains(text, "forked from " + rank_text(0) + here().host() + " has ended while it held heap(67108864 bytes)");
    thrown<peer_error>([&] { (void)h.view(one); });
    thrown<peer_error>([&] { h.release(one); });
    thrown<peer_error>([&] { (void)h.usage(); });
  }
  BOOST_CHECK(holds(kept.bytes(), 1));
  kept = {};
  check_still_works(here());
}

BOOST_AUTO_TEST_CASE(it_works_when_the_communicator_is_gone)
{
  own_comm comm(world().node(), world().rank());
  nodeshare::heap h{topology(comm), megabyte};
  comm.free();
  const auto one = h.allocate(100);
  BOOST_CHECK_EQUAL(h.view(one).size_bytes(), 100);
  h.release(one);
  barrier_of_node();
}

BOOST_AUTO_TEST_CASE(it_is_found_in_memory_that_another_process_attached)
{
  const kind_of_memory memfd("memfd");
  nodeshare::heap h(topology(topology(memfd).node_comm()), megabyte);
  const auto one = h.allocate(100);
  fill(h.at(one), 1);
  {
    nodeshare::heap other(attach(describe(*h.memory())));
    BOOST_CHECK(holds(other.view(one).bytes(), 1));
    BOOST_CHECK(other.at(one).data() != h.at(one).data());
    other.release(one);
  }
  thrown<invalid_argument>([&] { (void)h.at(one); });
  barrier_of_node();
}

BOOST_AUTO_TEST_SUITE_END()
