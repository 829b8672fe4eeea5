// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// What ranks do on the memory they share, by threads of one process over one control page: ThreadSanitizer (preset
/// `thread`) then sees whether each access is ordered after those that it must follow. It knows nothing of the fence on
/// all processors of a rank that leaves a meeting early; what stands around that is atomic. A program of its own, since
/// MPI_Init does not work under ThreadSanitizer.
#include <algorithm>
#include <array>
#include <atomic>
#include <boost/test/unit_test.hpp>
#include <deque>
#include <functional>
#include <mutex>
#include <numeric>
#include <random>
#include <shared_mutex>
#include <thread>
#include <vector>

#include "dict.hpp"
#include "heap_words.hpp"
#include "list.hpp"
#include "meeting.hpp"
#include "recycling.hpp"
#include "ring.hpp"
#include "support.hpp"

using namespace nodeshare;
using namespace nodeshare::test;

namespace {

const failure no_failure;
constexpr int rounds = 1000;

/// A rank of a node, without MPI.
struct thread_rank {
  thread_rank(const std::shared_ptr<control_page>& page, int its_rank) : meetings(where, page, false), spares(page, "")
  {
    where.rank = where.node_rank = its_rank;
    where.size = where.ranks_on_host = page->ranks;
    where.host = "one process";
    where.node_of.assign(static_cast<std::size_t>(page->ranks), 0);
    where.ranks_on.emplace_back(static_cast<std::size_t>(page->ranks));
    std::iota(where.ranks_on[0].begin(), where.ranks_on[0].end(), 0);
  }

  topology_state where;
  meeting_place meetings;
  recycler spares;

  [[nodiscard]] int rank() const { return where.node_rank; }
  [[nodiscard]] int ranks() const { return where.size; }
  [[nodiscard]] bool leads() const { return where.node_rank == 0; }
  void meet(const char* name = "sync") { meetings.agree(call(name, ""), no_failure, scope::node, false); }
};

mapping memory_of(const descriptor& offered, std::size_t bytes, bool leads)
{
  mapping out;
  if (const failure trouble = memfd_provider.map(MPI_COMM_NULL, leads, offered, bytes, out)) {
    throw error(trouble.text);
  }
  return out;
}

std::shared_ptr<segment> own_memory(std::size_t bytes)
{
  descriptor offered;
  (void)memfd_provider.offer(bytes, offered);
  segment_parts parts;
  parts.bytes = bytes;
  parts.mapped = memory_of(offered, bytes, true);
  return make_segment(std::move(parts));
}

std::shared_ptr<control_page> new_page(int ranks)
{
  descriptor offered;
  (void)memfd_provider.offer(control_page::bytes(ranks), offered);
  return std::make_shared<control_page>(memory_of(offered, control_page::bytes(ranks), true), ranks);
}

/// Runs `body` as each rank of a node. What it returns or throws is looked at afterwards, as Boost checks on one
/// thread.
std::vector<std::string> on_threads(const std::shared_ptr<control_page>& page,
                                    const std::function<std::string(thread_rank&)>& body)
{
  std::deque<thread_rank> ranks;
  std::vector<std::string> outcomes(static_cast<std::size_t>(page->ranks));
  for (int rank = 0; rank < page->ranks; ++rank) {
    ranks.emplace_back(page, rank);
  }
  std::vector<std::thread> threads;
  for (thread_rank& mine : ranks) {
    threads.emplace_back([&mine, &body, &out = outcomes[static_cast<std::size_t>(mine.rank())]] {
      try {
        out = body(mine);
      } catch (const std::exception& why) {
        out = why.what();
        mine.meetings.end("it failed", true);  // nobody waits for it
      }
    });
  }
  for (std::thread& one : threads) {
    one.join();
  }
  return outcomes;
}

void all_say(const std::vector<std::string>& outcomes, const std::string& text)
{
  for (std::size_t rank = 0; rank < outcomes.size(); ++rank) {
    BOOST_CHECK_MESSAGE(outcomes[rank] == text, "rank " << rank << " of " << outcomes.size() << ": " << outcomes[rank]);
  }
}

thread_local bool signalled;
std::atomic<int> asked_to_leave;

/// The steps of node::create, with memory of the system's for ranks that are one process.
segment_parts create(thread_rank& mine, std::size_t bytes, std::uint32_t& next_place)
{
  control_page& page = mine.meetings.page();
  segment_plan& plan = page.header().plan;
  const call what("create", std::to_string(bytes));
  mine.meetings.agree(what, no_failure, scope::node, true, [&]() -> failure {
    plan = {};
    if (mine.spares.choose(bytes, plan)) {
      return {};
    }
    do {
      plan.place = next_place++ % most_segments;
    } while (page.word_of(plan.place).load(std::memory_order_acquire) != 0);
    page.word_of(plan.place)
        .store(static_cast<std::uint64_t>(page.ranks) * (segment_word::holder + segment_word::mapping),
               std::memory_order_relaxed);
    plan.kind = memory_kind::memfd;
    return memfd_provider.offer(bytes, plan.offered);
  });
  segment_parts parts;
  parts.bytes = bytes;
  parts.kind = plan.kind;
  parts.place = plan.place;
  parts.word = &page.word_of(plan.place);
  mine.spares.drop_retired();
  parts.mapped = plan.recycled ? mine.spares.take(plan.place) : memory_of(plan.offered, bytes, mine.leads());
  mine.meetings.agree(what, no_failure, scope::node, false);
  return parts;
}

std::uint64_t& first_word(const segment_parts& parts)
{
  return *reinterpret_cast<std::uint64_t*>(parts.mapped.address);
}

}  // namespace

BOOST_AUTO_TEST_CASE(what_is_written_before_a_meeting_is_read_after_it)
{
  for (const int ranks : {2, 3, 4}) {
    std::vector<int> written(static_cast<std::size_t>(ranks));
    all_say(on_threads(new_page(ranks),
                       [&](thread_rank& mine) {
                         std::ptrdiff_t right = 0;
                         for (int round = 1; round <= rounds; ++round) {
                           written[static_cast<std::size_t>(mine.rank())] = round;
                           mine.meet();
                           right += std::count(written.begin(), written.end(), round);
                           mine.meet();
                         }
                         return std::to_string(right);
                       }),
            std::to_string(ranks * rounds));
  }
}

BOOST_AUTO_TEST_CASE(what_the_leader_decides_is_read_by_all)
{
  for (const int ranks : {2, 3, 4}) {
    int decided = 0;
    all_say(on_threads(new_page(ranks),
                       [&](thread_rank& mine) {
                         int right = 0;
                         for (int round = 1; round <= rounds; ++round) {
                           const failure objection{failure_kind::out_of_shared_memory, "full"};
                           try {
                             mine.meetings.agree(call("decide", ""), objection, scope::node, false, [&]() -> failure {
                               decided = round;
                               return round % 3 == 0 ? objection : failure{};
                             });
                             right += round % 3 != 0 && decided == round ? 1 : 0;
                           } catch (const out_of_shared_memory&) {
                             right += round % 3 == 0 && decided == round ? 1 : 0;
                           }
                         }
                         return std::to_string(right);
                       }),
            std::to_string(rounds));
  }
}

BOOST_AUTO_TEST_CASE(ranks_that_call_different_things_are_all_told_the_same)
{
  for (const int ranks : {2, 3, 4}) {
    std::vector<std::string> told(static_cast<std::size_t>(ranks));
    all_say(on_threads(new_page(ranks),
                       [&](thread_rank& mine) {
                         int right = 0;
                         for (int round = 0; round < rounds; ++round) {
                           std::string& text = told[static_cast<std::size_t>(mine.rank())];
                           try {
                             mine.meet(round % mine.ranks() == mine.rank() ? "another" : "sync");
                           } catch (const mismatch& why) {
                             text = why.what();
                           }
                           mine.meet();
                           right += !text.empty() && text == told[0] ? 1 : 0;
                           mine.meet();
                         }
                         return std::to_string(right);
                       }),
            std::to_string(rounds));
  }
}

/// Rank 0 leaves when it has waited a while, rank 1 comes at that very moment, rank 2 has come: the meeting counts for
/// both of these or for none.
BOOST_AUTO_TEST_CASE(whether_a_meeting_counts_that_a_rank_left_is_known_to_all)
{
  const replaced leaving(
      hooks.interrupted, +[] {
        if (signalled) {
          asked_to_leave.fetch_add(1);
        }
        return signalled;
      });
  asked_to_leave = 0;
  constexpr int times = 12;
  std::array<std::array<bool, times>, 3> came{};
  all_say(on_threads(new_page(3),
                     [&](thread_rank& mine) {
                       for (int time = 0; time < times; ++time) {
                         signalled = mine.rank() == 0;
                         while (mine.rank() == 1 && asked_to_leave.load() == time) {
                         }
                         bool& counts = came[static_cast<std::size_t>(mine.rank())][static_cast<std::size_t>(time)];
                         try {
                           mine.meet();
                           counts = true;
                         } catch (const interrupted&) {
                         } catch (const peer_error&) {
                         }
                         signalled = false;
                         mine.meet("after");
                       }
                       return std::string();
                     }),
          "");
  BOOST_CHECK(came[1] == came[2]);
  BOOST_CHECK(std::none_of(came[0].begin(), came[0].end(), [](bool counted) { return counted; }));
}

BOOST_AUTO_TEST_CASE(a_rank_that_ended_is_named_to_those_that_wait)
{
  for (const int ranks : {2, 3, 4}) {
    const auto outcomes = on_threads(new_page(ranks), [](thread_rank& mine) {
      mine.meet();
      if (mine.rank() == mine.ranks() - 1) {
        mine.meetings.end("exit", false);
        return std::string();
      }
      mine.meet();
      return std::string("met");
    });
    for (std::size_t rank = 0; rank + 1 < outcomes.size(); ++rank) {
      contains(outcomes[rank], "has ended (exit)");
    }
  }
}

BOOST_AUTO_TEST_CASE(what_a_mutex_guards_is_read_by_the_next_that_holds_it)
{
  nodeshare::mutex one(own_memory(4096));
  nodeshare::shared_mutex many(own_memory(4096));
  std::uint64_t first = 0;
  std::uint64_t second = 0;
  std::uint64_t third = 0;
  all_say(on_threads(new_page(4),
                     [&](thread_rank& mine) {
                       int torn = 0;
                       for (int round = 0; round < rounds; ++round) {
                         {
                           const std::scoped_lock hold(one);
                           ++first;
                         }
                         if (round % mine.ranks() == mine.rank()) {
                           const std::scoped_lock hold(many);
                           ++second;
                           ++third;
                         } else {
                           const std::shared_lock hold(many);
                           torn += second != third ? 1 : 0;
                         }
                       }
                       return std::to_string(torn);
                     }),
          "0");
  BOOST_CHECK_EQUAL(first, std::uint64_t{4} * rounds);
  BOOST_CHECK_EQUAL(second, std::uint64_t{rounds});
}

/// A heap of its own, as the ranks of a node make it together.
std::shared_ptr<segment> own_heap(std::size_t capacity)
{
  const heap_layout where(capacity);
  auto memory = own_memory(where.blocks + where.capacity);
  BOOST_REQUIRE(!heap_words::begin(*memory, where));
  return memory;
}

/// Bytes that are all the same, as one value.
struct uniform {
  std::vector<std::byte> bytes;
  std::array<const_bytes, 1> pieces;

  uniform(std::size_t count, int number) : bytes(count, static_cast<std::byte>(number)), pieces{bytes} {}
  uniform(const uniform&) = delete;
  uniform& operator=(const uniform&) = delete;
  operator parts() const { return {bytes_of_key, pieces}; }

  static constexpr std::array<std::byte, 1> bytes_of_key{std::byte{7}};
};

bool is_uniform(const taken& one)
{
  const const_bytes bytes = one.value().all().front();
  return std::ranges::all_of(bytes, [&](std::byte each) { return each == bytes.front(); });
}

BOOST_AUTO_TEST_CASE(values_of_containers_are_read_as_they_were_written)
{
  list row(own_heap(16 * megabyte));
  dict keyed(own_heap(16 * megabyte));
  ring queue(heap(own_heap(16 * megabyte)), 0, "put()", "get()");
  queue.bound(5, 0);
  const uniform begin(100, 0);
  const std::array<parts, 1> first{begin};
  row.insert(0, first);
  all_say(on_threads(new_page(4),
                     [&](thread_rank& mine) {
                       int torn = 0;
                       for (int round = 0; round < rounds / 4; ++round) {
                         const uniform value(round % 3 == 0 ? 5000 : 90, round * mine.ranks() + mine.rank());
                         const std::array<parts, 1> more{value};
                         row.set(0, value);
                         row.insert(1, more);
                         torn += is_uniform(row.get(0)) && is_uniform(row.pop(-1)) ? 0 : 1;
                         keyed.set(value);
                         const auto kept = keyed.get(uniform::bytes_of_key);
                         torn += is_uniform(*kept) ? 0 : 1;
                         (void)queue.put(value, -1);
                         torn += is_uniform(*queue.get(-1)) ? 0 : 1;
                       }
                       return std::to_string(torn);
                     }),
          "0");
  BOOST_CHECK_EQUAL(row.size(), 1);
  BOOST_CHECK_EQUAL(queue.size(), 0);
}

/// Ranks make segments together and let go of them in an order of their own. What a rank reads of one that it holds is
/// what was written when it was made; no place, and no idle byte, is left over.
BOOST_AUTO_TEST_CASE(memory_that_a_rank_holds_is_not_handed_out_again)
{
  for (const int ranks : {2, 3, 4}) {
    const auto page = new_page(ranks);
    const std::size_t page_size = linux_api::page_size();
    page->header().most_idle = 8 * page_size;            // some is kept, some is not
    std::vector<std::uint64_t> bytes_of(most_segments);  // for the pages, which each rank has at another address
    std::uint32_t next_place = 0;
    std::atomic<int> recycled{0};
    const auto outcomes = on_threads(page, [&](thread_rank& mine) {
      std::minstd_rand ours(7);
      std::minstd_rand my_own(static_cast<unsigned>(mine.rank()) + 1);
      std::vector<std::pair<std::uint64_t, segment_parts>> held;
      int wrong = 0;
      const auto let_go = [&](std::size_t which) {
        auto& [number, parts] = held[which];
        wrong += bytes_of[parts.place] != number || first_word(parts) != number ? 1 : 0;
        mine.spares.let_go(parts);
        held.erase(held.begin() + static_cast<std::ptrdiff_t>(which));
      };
      for (std::uint64_t number = 1; number <= rounds; ++number) {
        const std::size_t bytes = (1 + ours() % 4) * page_size;
        segment_parts parts = create(mine, bytes, next_place);
        if (mine.leads()) {
          recycled += page->header().plan.recycled ? 1 : 0;
        }
        if (number % static_cast<unsigned>(mine.ranks()) == static_cast<unsigned>(mine.rank())) {
          bytes_of[parts.place] = number;
          first_word(parts) = number;
        }
        mine.meet();
        held.emplace_back(number, std::move(parts));
        while (!held.empty() && my_own() % 5 < 3) {
          let_go(my_own() % held.size());
        }
      }
      while (!held.empty()) {
        let_go(0);
      }
      mine.meet();
      mine.spares.drop_idle();
      return std::to_string(wrong);
    });
    all_say(outcomes, "0");
    std::size_t left = 0;
    for (std::uint32_t place = 0; place < next_place; ++place) {
      left += page->word_of(place) != 0 ? 1 : 0;
    }
    BOOST_CHECK_EQUAL(left, 0u);
    BOOST_CHECK_EQUAL(page->header().idle_bytes.load(), 0u);
    BOOST_CHECK_GT(recycled.load(), 0);
    BOOST_CHECK_GT(next_place, 0u);
  }
}

int main(int argc, char** argv)
{
  return boost::unit_test::unit_test_main([] { return true; }, argc, argv);
}
