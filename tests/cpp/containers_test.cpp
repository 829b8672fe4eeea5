// SPDX-License-Identifier: BSD-3-Clause
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <functional>
#include <limits>
#include <map>
#include <mutex>
#include <numeric>
#include <stdexcept>
#include <thread>
#include <utility>

#include "dict.hpp"
#include "list.hpp"
#include "pipe.hpp"
#include "ring.hpp"
#include "support.hpp"

using namespace nodeshare;
using namespace nodeshare::test;

namespace {

constexpr std::size_t capacity = 16 * megabyte;
constexpr auto at_the_end = std::numeric_limits<std::ptrdiff_t>::max();

const topology& alone()
{
  static const topology one(MPI_COMM_SELF);
  return one;
}

memory new_heap(const topology& where = here(), std::size_t bytes = capacity) { return heap(where, bytes).memory(); }

const_bytes bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }
std::string text_of(const_bytes bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

/// A text and a buffer, to be stored.
class value {
 public:
  explicit value(std::string text, std::string key = "", std::vector<std::byte> buffer = {})
      : text_(std::move(text)), key_(std::move(key)), buffer_(std::move(buffer)), pieces_{bytes_of(text_), buffer_}
  {}
  value(const value&) = delete;
  value& operator=(const value&) = delete;
  operator parts() const { return {bytes_of(key_), pieces_}; }

 private:
  std::string text_, key_;
  std::vector<std::byte> buffer_;
  std::array<const_bytes, 2> pieces_;
};

std::string text_of(const taken& one) { return text_of(one.value().all().front()); }
const_bytes buffer_of(const taken& one) { return one.value().all().back(); }

bool all_are(const_bytes bytes, std::byte number)
{
  return std::ranges::all_of(bytes, [&](std::byte one) { return one == number; });
}

void append(nodeshare::list& to, const value& one)
{
  const std::array<parts, 1> all{one};
  to.insert(at_the_end, all);
}

std::vector<std::string> texts_of(nodeshare::list& from)
{
  const auto all = from.some([](std::size_t size) {
    std::vector<std::size_t> out(size);
    std::iota(out.begin(), out.end(), 0);
    return out;
  });
  std::vector<std::string> out;
  for (const taken& one : all.values) {
    out.push_back(text_of(one));
  }
  return out;
}

/// How many texts "rank:number" there are of each rank; their numbers have to be 0, 1, 2, … in this order.
std::map<std::string, int> counted(const std::vector<std::string>& texts)
{
  std::map<std::string, int> next;
  for (const std::string& text : texts) {
    const auto colon = text.find(':');
    BOOST_REQUIRE_EQUAL(std::stoi(text.substr(colon + 1)), next[text.substr(0, colon)]++);
  }
  return next;
}

std::string my_text(int number) { return std::to_string(here().rank()) + ":" + std::to_string(number); }

int killed_here(void*, std::size_t, int)
{
  ::kill(::getpid(), SIGKILL);
  return 0;
}

/// Runs in a forked child, which is killed where it first makes memory present.
template <class Work>
void killed_in(Work&& work)
{
  const pid_t child = ::fork();
  if (child == 0) {
    linux_api::calls.madvise = killed_here;
    work();
    ::_exit(0);
  }
  int status = -1;
  ::waitpid(child, &status, 0);
  BOOST_TEST_REQUIRE(WIFSIGNALED(status));
}

std::atomic<bool> waits{false};

/// Does some work for which the heap's lock is needed while another thread has it, and a signal is due all the time.
/// False if the work was interrupted.
template <class Work>
bool with_a_signal_in_the_wait_for(const heap& one, Work&& work)
{
  const replaced<bool (*)()> due(hooks.interrupted, [] { return true; });
  const replaced<void* (*)()> begins(hooks.let_go, []() -> void* {
    waits = true;
    return nullptr;
  });
  nodeshare::mutex lock(one.memory());
  std::atomic<bool> held{false};
  waits = false;
  std::thread other([&] {
    const std::scoped_lock hold(lock);
    held = true;
    while (!waits) {
      std::this_thread::yield();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(150));  // it asks for signals every 50 ms
  });
  while (!held) {
    std::this_thread::yield();
  }
  bool done = true;
  try {
    work();
  } catch (const interrupted&) {
    done = false;
  }
  BOOST_CHECK(waits.exchange(true));
  other.join();
  return done;
}

}  // namespace

BOOST_AUTO_TEST_SUITE(containers)

BOOST_AUTO_TEST_CASE(what_ranks_append_is_in_a_list_once_and_in_order)
{
  nodeshare::list one(new_heap());
  for (int i = 0; i < 500; ++i) {
    append(one, value(my_text(i)));
  }
  barrier_of_node();
  const auto all = counted(texts_of(one));
  BOOST_CHECK_EQUAL(all.size(), here().size());
  BOOST_CHECK_EQUAL(one.size(), std::size_t{500} * here().size());
  barrier_of_node();
}

BOOST_AUTO_TEST_CASE(each_value_of_a_list_is_popped_once)
{
  nodeshare::list one(new_heap());
  const int mine = 300;
  for (int i = 0; i < mine; ++i) {
    append(one, value(my_text(i)));
  }
  barrier_of_node();
  int popped = 0;
  try {
    while (true) {
      BOOST_REQUIRE(!text_of(one.pop(0)).empty());
      ++popped;
    }
  } catch (const std::out_of_range&) {
  }
  int all = 0;
  MPI_Allreduce(&popped, &all, 1, MPI_INT, MPI_SUM, here().comm());
  BOOST_CHECK_EQUAL(all, mine * here().size());
  barrier_of_node();
  BOOST_CHECK_EQUAL(one.memory().usage().blocks, 1);  // its table
}

BOOST_AUTO_TEST_CASE(indices_count_from_both_ends)
{
  nodeshare::list one(new_heap(alone()));
  for (const char* text : {"b", "d"}) {
    append(one, value(text));
  }
  const value a("a"), c("c"), last("e");
  const auto insert = [&](std::ptrdiff_t index, const value& what) {
    const std::array<parts, 1> all{what};
    one.insert(index, all);
  };
  insert(-1, c);
  insert(-100, a);
  insert(100, last);
  BOOST_CHECK(texts_of(one) == (std::vector<std::string>{"a", "b", "c", "d", "e"}));
  one.set(-5, value("A"));
  BOOST_CHECK_EQUAL(text_of(one.get(0)), "A");
  BOOST_CHECK_EQUAL(text_of(one.get(-1)), "e");
  for (const std::ptrdiff_t beyond : {-6, 5}) {
    BOOST_CHECK_THROW((void)one.get(beyond), std::out_of_range);
    BOOST_CHECK_THROW((void)one.pop(beyond), std::out_of_range);
    BOOST_CHECK_THROW(one.set(beyond, a), std::out_of_range);
  }
  BOOST_CHECK_EQUAL(one.memory().usage().blocks, 6);  // nothing of what failed is left
}

BOOST_AUTO_TEST_CASE(a_list_is_put_in_order_unless_it_was_changed)
{
  nodeshare::list one(new_heap(alone()));
  for (const char* text : {"a", "b", "c"}) {
    append(one, value(text));
  }
  const value fresh("d");
  const std::array<parts, 1> more{fresh};
  one.rearrange(
      [](std::size_t size) {
        return std::vector<std::int64_t>{static_cast<std::int64_t>(size) - 1, -1, 0};
      },
      more);
  BOOST_CHECK(texts_of(one) == (std::vector<std::string>{"c", "d", "a"}));
  const std::array<std::int64_t, 2> last{2, 0};
  BOOST_CHECK(!one.rearrange_unchanged(one.changes() - 1, last));
  BOOST_CHECK(texts_of(one) == (std::vector<std::string>{"c", "d", "a"}));
  BOOST_CHECK(one.rearrange_unchanged(one.changes(), last));
  BOOST_CHECK(texts_of(one) == (std::vector<std::string>{"a", "c"}));
  BOOST_CHECK_EQUAL(one.memory().usage().blocks, 3);
}

BOOST_AUTO_TEST_CASE(what_was_read_stays_when_it_is_replaced_and_when_the_list_is_gone)
{
  std::vector<taken> read;
  {
    nodeshare::list one(new_heap(alone()));
    append(one, value("large", "", std::vector<std::byte>(megabyte, std::byte{1})));
    append(one, value("small", "", std::vector<std::byte>(100, std::byte{2})));
    read.push_back(one.get(0));
    read.push_back(one.get(1));
    one.set(0, value("x", "", std::vector<std::byte>(megabyte, std::byte{3})));
    one.set(1, value("y"));
    (void)one.pop(0);
    append(one, value("z", "", std::vector<std::byte>(megabyte, std::byte{4})));
  }
  BOOST_CHECK_EQUAL(buffer_of(read[0]).size(), megabyte);
  BOOST_CHECK(all_are(buffer_of(read[0]), std::byte{1}));
  BOOST_CHECK_EQUAL(reinterpret_cast<std::uintptr_t>(buffer_of(read[0]).data()) % 64, 0);
  BOOST_CHECK(all_are(buffer_of(read[1]), std::byte{2}));
}

BOOST_AUTO_TEST_CASE(nobody_sees_half_a_value)
{
  nodeshare::list one(new_heap());
  if (here().rank() == 0) {
    append(one, value("0", "", std::vector<std::byte>(20000, std::byte{0})));
  }
  barrier_of_node();
  for (int i = 0; i < 300; ++i) {
    const auto number = static_cast<std::byte>(i * here().size() + here().rank());
    one.set(0, value("x", "", std::vector<std::byte>(i % 2 == 0 ? 20000 : 300, number)));
    const taken seen = one.get(0);
    const const_bytes bytes = buffer_of(seen);
    BOOST_REQUIRE(all_are(bytes, bytes.front()));
  }
  barrier_of_node();
}

BOOST_AUTO_TEST_CASE(a_full_container_is_as_it_was)
{
  nodeshare::list one(new_heap(alone(), megabyte));
  append(one, value("kept"));
  const value large("x", "", std::vector<std::byte>(2 * megabyte));
  contains(thrown<out_of_shared_memory>([&] { append(one, large); }), "heap(");
  (void)thrown<out_of_shared_memory>([&] { one.set(0, large); });
  BOOST_CHECK(texts_of(one) == std::vector<std::string>{"kept"});

  nodeshare::dict other(new_heap(alone(), megabyte));
  other.set(value("kept", "key"));
  (void)thrown<out_of_shared_memory>([&] { other.set(value("x", "key", std::vector<std::byte>(2 * megabyte))); });
  BOOST_CHECK_EQUAL(text_of(*other.get(bytes_of("key"))), "kept");

  ring third(heap(new_heap(alone(), megabyte)), 0, "put()", "get()");
  (void)thrown<out_of_shared_memory>([&] { (void)third.put(large, -1); });
  BOOST_CHECK_EQUAL(third.size(), 0);
}

BOOST_AUTO_TEST_CASE(keys_of_a_dict_come_in_the_order_of_insertion)
{
  nodeshare::dict one(new_heap(alone()));
  std::vector<std::string> expected;
  for (int i = 0; i < 2000; ++i) {
    const std::string key = "key " + std::to_string(i);
    one.set(value(std::to_string(i), key));
    if (i % 3 == 0) {
      BOOST_REQUIRE_EQUAL(text_of(*one.pop(bytes_of(key))), std::to_string(i));
      BOOST_REQUIRE(!one.contains(bytes_of(key)));
    } else {
      expected.push_back(key);
    }
  }
  std::vector<std::string> found;
  for (const auto& key : one.keys()) {
    found.push_back(text_of(const_bytes(key)));
  }
  BOOST_CHECK(found == expected);
  BOOST_CHECK_EQUAL(one.size(), expected.size());
  for (const taken& entry : one.all()) {
    BOOST_REQUIRE_EQUAL(text_of(entry.value().key()), "key " + text_of(entry));
  }
  while (const auto last = one.pop()) {
    BOOST_REQUIRE_EQUAL(text_of(last->value().key()), expected.back());
    expected.pop_back();
  }
  BOOST_CHECK(expected.empty());
  one.set(value("again", "key 1"));
  one.clear();
  BOOST_CHECK_EQUAL(one.size(), 0);
  BOOST_CHECK_EQUAL(one.memory().usage().blocks, 2);  // its tables
}

BOOST_AUTO_TEST_CASE(one_rank_sets_a_default_and_all_others_get_it)
{
  nodeshare::dict one(new_heap());
  for (int i = 0; i < 500; ++i) {
    const value mine(std::to_string(here().rank()), std::to_string(i));
    const auto before = one.set_default(mine);
    const std::string now = text_of(*one.get(bytes_of(std::to_string(i))));
    BOOST_REQUIRE_EQUAL(now, before ? text_of(*before) : std::to_string(here().rank()));
  }
  barrier_of_node();
  BOOST_CHECK_EQUAL(one.size(), 500);
  barrier_of_node();
  int popped = 0;
  while (one.pop()) {
    ++popped;
  }
  int all = 0;
  MPI_Allreduce(&popped, &all, 1, MPI_INT, MPI_SUM, here().comm());
  BOOST_CHECK_EQUAL(all, 500);
}

BOOST_AUTO_TEST_CASE(each_value_of_a_ring_is_got_once_in_the_order_of_its_rank)
{
  ring one(heap(new_heap()), 0, "put()", "get()");
  one.bound(20, 0);
  const int mine = 500;
  std::vector<std::string> got;
  for (int i = 0; i < mine; ++i) {
    const value next(my_text(i), "", std::vector<std::byte>(i % 7 == 0 ? 5000 : 1, std::byte{7}));
    while (!one.put(next, 0)) {
      if (const auto other = one.get(0)) {
        BOOST_REQUIRE(all_are(buffer_of(*other), std::byte{7}));
        got.push_back(text_of(*other));
      }
    }
  }
  barrier_of_node();
  while (const auto other = one.get(0)) {
    got.push_back(text_of(*other));
  }
  int all = 0;
  const int taken_here = static_cast<int>(got.size());
  MPI_Allreduce(&taken_here, &all, 1, MPI_INT, MPI_SUM, here().comm());
  BOOST_CHECK_EQUAL(all, mine * here().size());
  if (here().size() == 1) {
    (void)counted(got);
  }
}

BOOST_AUTO_TEST_CASE(a_ring_waits_for_room_and_for_values)
{
  ring one(heap(new_heap()), 0, "put()", "get()");
  one.bound(1, 0);
  BOOST_CHECK(!one.get(0.001));
  barrier_of_node();
  if (here().rank() == 0) {
    for (int i = 0; i < 100 * (here().size() - 1); ++i) {
      BOOST_REQUIRE(one.put(value(std::to_string(i)), -1));
    }
  } else {
    int before = -1;
    for (int i = 0; i < 100; ++i) {
      const int number = std::stoi(text_of(*one.get(-1)));
      BOOST_REQUIRE_GT(number, std::exchange(before, number));
    }
  }
  barrier_of_node();
  BOOST_CHECK_EQUAL(one.size(), 0);
}

BOOST_AUTO_TEST_CASE(tasks_are_done_when_each_is)
{
  ring one(heap(new_heap(alone())), 0, "put()", "get()");
  one.join();
  BOOST_CHECK(!one.task_done());
  BOOST_REQUIRE(one.put(value("a"), -1) && one.put(value("b"), -1));
  std::thread worker([&] {
    while (one.get(0)) {
      (void)one.task_done();
    }
  });
  one.join();
  BOOST_CHECK_EQUAL(one.size(), 0);
  worker.join();
}

BOOST_AUTO_TEST_CASE(an_end_of_a_pipe_hears_that_the_other_is_closed)
{
  const memory both = new_heap(alone());
  pipe_end left(both, 0), right(both, 1);
  BOOST_CHECK(!left.poll(0));
  BOOST_REQUIRE(right.send(value("last"), -1));
  right.close();
  BOOST_CHECK_EQUAL(text_of(*left.receive(-1)), "last");
  BOOST_CHECK(!left.receive(-1));
  BOOST_CHECK(left.poll(0));
  BOOST_CHECK(!left.send(value("nobody gets it"), -1));
}

BOOST_AUTO_TEST_CASE(an_end_of_a_pipe_hears_that_the_process_at_the_other_has_ended)
{
  const memory both = new_heap(alone());
  pipe_end left(both, 0), right(both, 1);
  const pid_t child = ::fork();
  if (child == 0) {
    (void)right.send(value("from the child"), -1);
    ::_exit(0);
  }
  BOOST_CHECK_EQUAL(text_of(*left.receive(-1)), "from the child");
  BOOST_CHECK(!left.receive(-1));
  BOOST_CHECK(!left.send(value("nobody gets it"), -1));
  ::waitpid(child, nullptr, 0);
}

BOOST_AUTO_TEST_CASE(what_a_signal_interrupts_is_taken_out_or_still_there_and_no_memory_is_lost)
{
  for (const std::size_t bytes : {1000, 10000}) {  // a copy is given of it, or a view
    const value one("a", "key", std::vector<std::byte>(bytes));
    const value again("b", "key", std::vector<std::byte>(bytes));

    nodeshare::list row(new_heap(alone()));
    append(row, one);
    std::string got;
    const auto before = row.memory().usage().blocks;
    if (!with_a_signal_in_the_wait_for(row.memory(), [&] { got = text_of(row.pop(0)); })) {
      BOOST_REQUIRE_EQUAL(row.size(), 1);
      got = text_of(row.pop(0));
    }
    BOOST_CHECK_EQUAL(got, "a");
    BOOST_CHECK_EQUAL(row.size(), 0);
    BOOST_CHECK_EQUAL(row.memory().usage().blocks, before - 1);

    nodeshare::dict keyed(new_heap(alone()));
    const std::array<std::function<std::string()>, 2> ways{[&] { return text_of(*keyed.pop(bytes_of("key"))); },
                                                           [&] { return text_of(*keyed.pop()); }};
    for (const auto& way : ways) {
      keyed.set(again);
      const auto full = keyed.memory().usage().blocks;
      if (!with_a_signal_in_the_wait_for(keyed.memory(), [&] { got = way(); })) {
        BOOST_REQUIRE_EQUAL(keyed.size(), 1);
        got = way();
      }
      BOOST_CHECK_EQUAL(std::exchange(got, ""), "b");
      BOOST_CHECK_EQUAL(keyed.size(), 0);
      BOOST_CHECK_EQUAL(keyed.memory().usage().blocks, full - 1);
    }

    ring queue(heap(new_heap(alone())), 0, "put()", "get()");
    BOOST_REQUIRE(queue.put(one, -1));
    const auto full = queue.memory().usage().blocks;
    if (!with_a_signal_in_the_wait_for(queue.memory(), [&] { got = text_of(*queue.get(-1)); })) {
      BOOST_REQUIRE_EQUAL(queue.size(), 1);
      got = text_of(*queue.get(-1));
    }
    BOOST_CHECK_EQUAL(got, "a");
    BOOST_CHECK_EQUAL(queue.size(), 0);
    BOOST_CHECK_EQUAL(queue.memory().usage().blocks, full - 1);
  }
}

BOOST_AUTO_TEST_CASE(what_was_left_half_changed_is_used_by_nobody)
{
  nodeshare::list row(new_heap(alone()));
  nodeshare::dict keyed(new_heap(alone()));
  ring queue(heap(new_heap(alone())), 0, "put()", "get()");
  append(row, value("a"));
  const taken kept = row.get(0);
  killed_in([&] {
    for (int i = 0;; ++i) {
      append(row, value(std::to_string(i)));
    }
  });
  killed_in([&] {
    for (int i = 0;; ++i) {
      keyed.set(value("", std::to_string(i)));
    }
  });
  killed_in([&] {
    while (true) {
      (void)queue.put(value("a"), -1);
    }
  });
  for (int times = 0; times < 2; ++times) {
    contains(thrown<peer_error>([&] { append(row, value("b")); }), "has ended");
    (void)thrown<peer_error>([&] { keyed.set(value("", "b")); });
    (void)thrown<peer_error>([&] { (void)queue.put(value(std::string(1000, 'b')), -1); });
  }
  BOOST_CHECK_EQUAL(text_of(kept), "a");
}

BOOST_AUTO_TEST_SUITE_END()
