// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/node.hpp"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <thread>
#include <vector>

#include "meeting.hpp"
#include "support.hpp"

using namespace nodeshare;
using namespace nodeshare::test;

namespace {

bool threads_allowed()
{
  int level = MPI_THREAD_SINGLE;
  MPI_Query_thread(&level);
  return level == MPI_THREAD_MULTIPLE;
}
answer thread_multiple(boost::unit_test::test_unit_id) { return needs(threads_allowed(), "MPI_THREAD_MULTIPLE"); }

/// What this rank wrote to stderr since it was made.
class captured_errors {
 public:
  captured_errors() : before_(::dup(STDERR_FILENO)), file_(::memfd_create("stderr", MFD_CLOEXEC))
  {
    ::dup2(file_, STDERR_FILENO);
  }
  ~captured_errors()
  {
    ::dup2(before_, STDERR_FILENO);
    ::close(before_);
    ::close(file_);
  }
  [[nodiscard]] std::string text() const
  {
    char out[4096];
    const ssize_t got = ::pread(file_, out, sizeof out, 0);
    return {out, got > 0 ? static_cast<std::size_t>(got) : 0};
  }

 private:
  int before_;
  int file_;
};

}  // namespace

BOOST_AUTO_TEST_SUITE(node)

BOOST_AUTO_TEST_CASE(a_topology_has_one_node_object)
{
  const auto home = nodeshare::node::of(world());
  BOOST_CHECK(home == nodeshare::node::of(world()));
  BOOST_CHECK(home == nodeshare::node::of(topology(MPI_COMM_WORLD)));
}

BOOST_AUTO_TEST_CASE(ranks_have_the_same_token_exactly_if_they_share_a_node)
{
  const unsigned long mine = nodeshare::node::of(world())->token();
  std::vector<unsigned long> tokens(static_cast<std::size_t>(world().size()));
  MPI_Allgather(&mine, 1, MPI_UNSIGNED_LONG, tokens.data(), 1, MPI_UNSIGNED_LONG, MPI_COMM_WORLD);
  for (int rank = 0; rank < world().size(); ++rank) {
    BOOST_CHECK_EQUAL(tokens[static_cast<std::size_t>(rank)] == mine, world().node_of(rank) == world().node());
  }
}

BOOST_AUTO_TEST_CASE(what_was_written_before_a_meeting_is_seen_after_it)
{
  const shared_array<int> a(world(), {static_cast<std::size_t>(world().size())});
  int wrong = 0;
  for (int round = 1; round <= 300; ++round) {
    a.view()(world().rank()) = round;
    a.sync();
    for (const int rank : world().ranks_on(world().node())) {
      wrong += a.view()(rank) != round;
    }
    a.sync();
  }
  BOOST_CHECK_EQUAL(wrong, 0);
}

BOOST_AUTO_TEST_CASE(nodes_meet_independently_of_each_other)
{
  const auto home = nodeshare::node::of(world());
  for (int round = 0; round < 10 * (world().node() + 1); ++round) {
    home->meet(call("step", ""));
  }
  BOOST_CHECK_NO_THROW(home->agree(call("all", "")));
}

BOOST_AUTO_TEST_CASE(bytes_of_any_rank_reach_all_others)
{
  const auto home = nodeshare::node::of(world());
  for (int root = 0; root < world().size(); ++root) {
    for (const std::size_t size : {std::size_t{0}, std::size_t{5}, (std::size_t{17} << 20) + 3}) {
      const std::string content(size, static_cast<char>('a' + root));
      std::string bytes = world().rank() == root ? content : "something else";
      home->exchange(call("exchange", ""), bytes, root);
      BOOST_CHECK(bytes == content);
    }
  }
}

BOOST_AUTO_TEST_CASE(a_message_in_flight_arrives_while_its_sender_waits, *boost::unit_test::precondition(several_ranks))
{
  const own_comm messages;
  const auto home = nodeshare::node::of(world());
  std::vector<char> data(std::size_t{8} << 20, static_cast<char>(world().rank()));
  const int size = static_cast<int>(data.size());
  for (int receiver = 1; receiver < world().size(); ++receiver) {
    if (world().rank() == 0) {
      MPI_Request request = MPI_REQUEST_NULL;
      MPI_Isend(data.data(), size, MPI_CHAR, receiver, 0, messages, &request);
      home->meet(call("sync", ""));
      home->agree(call("together", ""));
      MPI_Wait(&request, MPI_STATUS_IGNORE);
      continue;
    }
    const bool shares_node = world().node() == world().node_of(0);
    if (!shares_node) {
      home->meet(call("sync", ""));
    }
    if (world().rank() == receiver) {
      MPI_Recv(data.data(), size, MPI_CHAR, 0, 0, messages, MPI_STATUS_IGNORE);
      BOOST_CHECK_EQUAL(static_cast<int>(data.back()), 0);
    }
    if (shares_node) {
      home->meet(call("sync", ""));
    }
    home->agree(call("together", ""));
  }
}

BOOST_AUTO_TEST_CASE(two_threads_work_on_two_communicators, *boost::unit_test::precondition(thread_multiple))
{
  const own_comm comms[2];
  std::atomic<int> wrong{0};
  const auto body = [&](MPI_Comm comm) {
    try {
      const topology t(comm);
      for (int round = 0; round < 30; ++round) {
        const shared_array<int> a(t, {static_cast<std::size_t>(t.size())});
        a.view()(t.rank()) = round + 1;
        a.sync();
        a.allgather();
        for (int rank = 0; rank < t.size(); ++rank) {
          wrong += a.view()(rank) != round + 1;
        }
      }
    } catch (const std::exception&) {
      wrong += 1000;
    }
  };
  std::thread other(body, MPI_Comm(comms[0]));
  body(comms[1]);
  other.join();
  BOOST_CHECK_EQUAL(wrong.load(), 0);
}

BOOST_AUTO_TEST_CASE(a_second_thread_in_a_collective_on_one_communicator_is_refused,
                     *boost::unit_test::precondition(several_ranks) * boost::unit_test::precondition(thread_multiple))
{
  const own_comm comm;
  const auto home = nodeshare::node::of(topology(comm));
  if (world().rank() == 0) {
    const auto& arrivals = home->meetings().page().arrivals(0);
    const auto arrived = [&arrivals] { return std::pair(arrivals.of[0].load(), arrivals.of[1].load()); };
    const auto before = arrived();
    std::thread waiting([&] { home->agree(call("together", "")); });
    while (arrived() == before) {
      std::this_thread::yield();
    }
    contains(thrown<nodeshare::error>([&] { home->agree(call("together", "")); }), "another thread");
    MPI_Barrier(comm);
    waiting.join();
  } else {
    MPI_Barrier(comm);
    home->agree(call("together", ""));
  }
  check_still_works(topology(comm));
}

BOOST_AUTO_TEST_CASE(a_long_wait_is_reported_once_and_names_who_is_missing,
                     *boost::unit_test::precondition(a_crowded_node))
{
  const setting patience("NODESHARE_PATIENCE", "0.2");
  const own_comm comm;
  const topology t(comm);
  const shared_array<std::atomic<int>> flag(t, {1});  // raised when the report is there; so the late rank comes
  static std::atomic<int>* raised = nullptr;
  static const captured_errors* said = nullptr;
  static int looks = 0;
  raised = &flag.view()(0);
  looks = 0;
  const int late = t.ranks_on(t.node()).back();
  if (t.rank() == late) {
    while (t.node_size() > 1 && raised->load() == 0) {
      std::this_thread::yield();
    }
    flag.sync();
    return;
  }
  std::string report;
  {
    const captured_errors errors;
    said = &errors;
    const replaced<bool (*)()> look(hooks.interrupted, [] {
      if (said->text().find('\n') != std::string::npos || ++looks > 100) {
        raised->store(1);
      }
      return false;
    });
    flag.sync();
    report = errors.text();
  }
  BOOST_CHECK_EQUAL(report.empty(), !t.is_leader());
  if (t.is_leader()) {
    contains(report, "missing: " + rank_text(late));
    contains(report, "sync(shared_array(extents={1}");
  }
}

BOOST_AUTO_TEST_CASE(a_rank_that_ends_while_it_leaves_a_meeting_is_waited_for_by_nobody,
                     *boost::unit_test::precondition(a_crowded_node))
{
  const own_comm comm;
  const topology t(comm);
  const auto home = nodeshare::node::of(t);
  const control_page& page = home->meetings().page();
  const int leaver = t.node_size() - 1;
  home->meet(call("sync", ""));
  MPI_Barrier(comm);
  if (leaver > 0 && t.node_rank() == leaver) {  // as if killed before it could say whether all others had come
    rank_line& mine = page.line(leaver);
    std::uint32_t next = 1;
    while (page.arrivals(leaver).came_to(next)) {
      ++next;
    }
    mine.withdrawn.store(std::uint64_t{next} * 4 + withdrawal::undecided);
    page.header().withdrawals.fetch_add(1);
    mine.ended.store(by_failure);
  }
  MPI_Barrier(comm);
  if (t.node_rank() != leaver) {
    contains(thrown<peer_error>([&] { home->meet(call("sync", "")); }), rank_text(t.ranks_on(t.node()).back()));
  }
  MPI_Barrier(comm);
}

BOOST_AUTO_TEST_CASE(after_its_communicator_is_freed_a_node_still_meets_and_creates_nothing)
{
  own_comm comm;
  std::optional<topology> t(comm);
  const shared_array<int> a(*t, {10});
  comm.free();
  a.view()(9) = 1;
  BOOST_CHECK_NO_THROW(a.sync());
  BOOST_CHECK_EQUAL(a.view()(9), 1);
  contains(thrown<invalid_argument>([&] { shared_array<int> b(*t, {10}); }), "freed");
  if (world().nodes() > 1) {
    contains(thrown<invalid_argument>([&] { a.bcast(0); }), "freed");
  }
  t.reset();
  BOOST_CHECK_NO_THROW(a.sync());
}

BOOST_AUTO_TEST_SUITE_END()
