// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/node.hpp"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <set>

#include "farewell.hpp"
#include "linux.hpp"
#include "meeting.hpp"
#include "nodeshare/error.hpp"
#include "recycling.hpp"
#include "wait.hpp"

namespace nodeshare {
namespace {

/// The node objects of this process, to leave word on all when it ends; never destroyed, as exit order is not ours.
struct registry {
  std::mutex mutex;
  std::set<node*> live;
};
registry& nodes()
{
  static auto* one = new registry;
  return *one;
}

constexpr std::chrono::milliseconds last_words_wait{100};

/// Of the ranks that share memory with us, whether each can have a core of its own.
bool core_each(const topology_state& where, const control_page& page)
{
  cpu_set_t all;
  CPU_ZERO(&all);
  for (int rank = 0; rank < page.ranks; ++rank) {
    CPU_OR(&all, &all, &page.record(rank).processors);
  }
  return CPU_COUNT(&all) >= where.ranks_on_host;
}

}  // namespace

std::shared_ptr<node> node::of(const topology& where)
{
  auto& slot = where.state().node_layer;
  if (!slot) {
    (void)where.comm();
    // the state is shared with the communicator's attribute; aliasing keeps one owner
    slot = std::make_shared<node>(where.shared_state());
  }
  return std::static_pointer_cast<node>(slot);
}

node::node(std::shared_ptr<topology_state> where) : where_(std::move(where))
{
  static const std::uint64_t files = linux_api::raise_open_files();
  (void)files;
  auto page = make_page(*where_, window_directory_);
  core_each_ = core_each(*where_, *page);
  recycler_ = std::make_unique<recycler>(page, window_directory_);
  meetings_ = std::make_unique<meeting_place>(*where_, std::move(page), core_each_);
  at_free = [](topology_state& freed) {
    if (freed.node_layer) {
      std::static_pointer_cast<node>(freed.node_layer)->free_unused_windows();
    }
  };
  const std::lock_guard lock(nodes().mutex);
  nodes().live.insert(this);
  at_finalize = [] {
    node::end("MPI_Finalize", false);
    free_held_windows();
  };
}

node::~node()
{
  const std::lock_guard lock(nodes().mutex);
  nodes().live.erase(this);
}

void node::end(std::string_view how, bool failed) noexcept
{
  if (may_call_mpi()) {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    leave_farewell(rank, how);
  }
  const std::lock_guard lock(nodes().mutex);
  for (node* one : nodes().live) {
    one->meetings_->end(how, failed);
    one->recycler_->drop_idle();
  }
  const auto until = std::chrono::steady_clock::now() + last_words_wait;  // most often all ranks end at the same time
  const auto heard = [](const node* one) { return one->meetings_->hear_last_words(); };
  while (!std::all_of(nodes().live.begin(), nodes().live.end(), heard) && std::chrono::steady_clock::now() < until) {
    sched_yield();
  }
}

std::uint64_t node::token() const noexcept { return meetings_->page().header().token; }

std::uint64_t node::agreements() const noexcept { return meetings_->agreements(); }

void node::meet(const call& what) { meetings_->agree(what, {}, scope::node, false); }
void node::agree(const call& what, bool more) { meetings_->agree(what, {}, scope::communicator, more); }

void node::fail(const call& what, std::string_view text, bool over_node)
{
  try {
    meetings_->agree(what, {failure_kind::other, std::string(text)}, over_node ? scope::node : scope::communicator,
                     false);
  } catch (const interrupted&) {
    throw;
  } catch (const error&) {
    // the others know; the caller raises what it has
  }
}

void node::trim(const call& what)
{
  meetings_->agree(what, {}, scope::communicator, true);
  recycler_->drop_idle(true);
  free_dropped(what, false);
}

/// Collective over the communicator, when every rank has dropped what it kept.
void node::free_dropped(const call& what, bool more)
{
  meetings_->agree(what, {}, scope::communicator, more, [&]() -> failure {
    recycler_->choose_windows_to_free();
    return {};
  });
  recycler_->free_windows();
}

void node::drop_all_idle() noexcept
{
  const std::lock_guard lock(nodes().mutex);
  for (node* one : nodes().live) {
    one->recycler_->drop_idle();
  }
}

std::size_t node::idle_bytes() noexcept
{
  const std::lock_guard lock(nodes().mutex);
  std::size_t total = 0;
  for (const node* one : nodes().live) {
    total += one->recycler_->idle_bytes();
  }
  return total;
}

/// Collective over the communicator, which its user frees: held windows end with it, unless a rank has views of some.
void node::free_unused_windows() noexcept
{
  mapping& page = meetings_->page().mapped;
  if (!is_held(page)) {
    return;
  }
  recycler_->drop_idle();
  int unused = weak_from_this().use_count() == 2 ? 1 : 0;  // the topology's, and the caller's
  if (MPI_Allreduce(MPI_IN_PLACE, &unused, 1, MPI_INT, MPI_MIN, where_->node) == MPI_SUCCESS && unused == 1) {
    recycler_->free_all_windows();
    free_window(page);
  }
}

void node::exchange(const call& what, std::string& bytes, int root)
{
  if (where_->size == 1) {
    return;
  }
  meetings_->require_communicator();
  const bool sends = where_->rank == root;
  auto length = std::make_unique<std::uint64_t>(bytes.size());
  auto content = std::make_unique<std::string>(sends ? bytes : "");
  MPI_Request request = MPI_REQUEST_NULL;
  try {
    check_mpi(MPI_Ibcast(length.get(), 1, MPI_UINT64_T, root, where_->all, &request), "MPI_Ibcast");
    meetings_->finish(request, what, "MPI_Ibcast", parties::all);
    content->resize(*length);
    constexpr std::size_t step = std::size_t{8} << 20;
    for (std::size_t done = 0; done < content->size(); done += step) {
      const auto now = static_cast<int>(std::min(step, content->size() - done));
      check_mpi(MPI_Ibcast(content->data() + done, now, MPI_BYTE, root, where_->all, &request), "MPI_Ibcast");
      meetings_->finish(request, what, "MPI_Ibcast", parties::all);
    }
  } catch (...) {
    leave_to_mpi(std::move(length));
    leave_to_mpi(std::move(content));
    throw;
  }
  bytes = std::move(*content);
}

std::vector<std::int64_t> node::gather(const call& what, std::int64_t number)
{
  meetings_->require_communicator();
  auto mine = std::make_unique<std::int64_t>(number);
  auto all = std::make_unique<std::vector<std::int64_t>>(static_cast<std::size_t>(where_->size));
  MPI_Request request = MPI_REQUEST_NULL;
  try {
    check_mpi(MPI_Iallgather(mine.get(), 1, MPI_INT64_T, all->data(), 1, MPI_INT64_T, where_->all, &request),
              "MPI_Iallgather");
    meetings_->finish(request, what, "MPI_Iallgather", parties::all);
  } catch (...) {
    leave_to_mpi(std::move(mine));
    leave_to_mpi(std::move(all));
    throw;
  }
  return std::move(*all);
}

}  // namespace nodeshare
