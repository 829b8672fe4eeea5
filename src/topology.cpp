// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/topology.hpp"

#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "failure.hpp"
#include "first_meeting.hpp"
#include "linux.hpp"
#include "nodeshare/error.hpp"
#include "settings.hpp"
#include "splitting.hpp"
#include "topology_state.hpp"
#include "wait.hpp"

namespace nodeshare {
namespace {

/// All topologies whose communicators are still ours to free; never destroyed, as exit order is not ours.
struct registry {
  std::mutex mutex;
  std::set<topology_state*> live;
  int keyvals[2] = {MPI_KEYVAL_INVALID, MPI_KEYVAL_INVALID};  // on the users' communicators; by `per`
  int self_keyval = MPI_KEYVAL_INVALID;  // on MPI_COMM_SELF: its callback runs first in MPI_Finalize (MPI-3.1, 8.7.1)
};
registry& topologies()
{
  static auto* one = new registry;
  return *one;
}

using cached = std::shared_ptr<topology_state>;

int user_frees_communicator(MPI_Comm, int, void* value, void*)
{
  if (linux_api::forked()) {
    return MPI_SUCCESS;
  }
  auto* held = static_cast<cached*>(value);
  (*held)->user = MPI_COMM_NULL;
  if (!finalized.load()) {
    if (at_free != nullptr) {
      at_free(**held);
    }
    (*held)->release_communicators();
  }
  (*held)->node_layer.reset();  // which holds the state in turn; arrays that still live hold what they need
  delete held;
  return MPI_SUCCESS;
}

int mpi_finalizes(MPI_Comm, int, void*, void*)
{
  if (linux_api::forked()) {
    return MPI_SUCCESS;
  }
  finalized.store(true);  // from here on only our own communicators may be freed: other calls are fatal on some MPIs
  if (at_finalize != nullptr) {
    at_finalize();
  }
  std::vector<std::shared_ptr<topology_state>> live;  // freeing one's communicators may end another: that of our duplicate
  {
    const std::lock_guard lock(topologies().mutex);
    for (topology_state* state : topologies().live) {
      live.push_back(state->weak_from_this().lock());
    }
  }
  std::erase(live, nullptr);
  for (const auto& state : live) {
    state->user = MPI_COMM_NULL;
    state->lane = MPI_COMM_NULL;  // MPI's to free: words of ranks that ended may lie there unread, which MPICH 5 aborts on
    state->release_communicators();
  }
  return MPI_SUCCESS;
}

void make_keyvals()
{
  linux_api::watch_forks();
  const std::lock_guard lock(topologies().mutex);
  if (topologies().self_keyval != MPI_KEYVAL_INVALID) {
    return;
  }
  for (int& keyval : topologies().keyvals) {
    check_mpi(MPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, user_frees_communicator, &keyval, nullptr),
              "MPI_Comm_create_keyval");
  }
  check_mpi(MPI_Comm_create_keyval(MPI_COMM_NULL_COPY_FN, mpi_finalizes, &topologies().self_keyval, nullptr),
            "MPI_Comm_create_keyval");
  check_mpi(MPI_Comm_set_attr(MPI_COMM_SELF, topologies().self_keyval, nullptr), "MPI_Comm_set_attr");
}

MPI_Comm duplicate(MPI_Comm from, MPI_Comm& cache)
{
  if (cache == MPI_COMM_NULL && from != MPI_COMM_NULL) {
    check_mpi(MPI_Comm_dup(from, &cache), "MPI_Comm_dup");
  }
  return cache;
}

}  // namespace

void (*at_finalize)() = nullptr;
void (*at_free)(topology_state& where) = nullptr;

topology_state::~topology_state()
{
  const std::lock_guard lock(topologies().mutex);
  topologies().live.erase(this);
}

void topology_state::release_communicators() noexcept
{
  for (MPI_Comm* comm : {&user_lane, &user_node, &lane, &node, &all}) {
    if (*comm != MPI_COMM_NULL && !pending) {
      MPI_Comm_free(comm);
    }
    *comm = MPI_COMM_NULL;
  }
  const std::lock_guard lock(topologies().mutex);
  topologies().live.erase(this);
}

topology::topology(MPI_Comm comm, std::source_location where) : topology(comm, per::node, where) {}

topology::topology(MPI_Comm comm, per each, std::source_location where)
{
  require_usable(comm);
  make_keyvals();
  void* found = nullptr;
  int has = 0;
  const int keyval = topologies().keyvals[static_cast<int>(each)];
  check_mpi(MPI_Comm_get_attr(comm, keyval, &found, &has), "MPI_Comm_get_attr");
  if (has != 0) {
    state_ = *static_cast<cached*>(found);
    return;
  }
  failure ignored;  // of the settings: rank 0's are agreed below
  meet_first(comm, read_settings(ignored).patience, where_text(where));
  auto state = std::make_shared<topology_state>();
  MPI_Comm_rank(comm, &state->rank);
  MPI_Comm_size(comm, &state->size);
  state->user = comm;
  state->all = split(comm, 0, state->rank);
  try {
    agree_on(each, state->all);
    state->chosen = agree_settings(state->all, state->rank);
    state->host = linux_api::host_name();
    state->node = split_by_memory(*state);
    if (each == per::numa) {
      state->node = split_by_domain(*state, std::exchange(state->node, MPI_COMM_NULL));
    }
    number_nodes(*state);
    auto held = std::make_unique<cached>(state);
    check_mpi(MPI_Comm_set_attr(comm, keyval, held.get()), "MPI_Comm_set_attr");
    (void)held.release();  // the communicator's now
  } catch (...) {
    state->release_communicators();
    throw;
  }
  const std::lock_guard lock(topologies().mutex);
  topologies().live.insert(state.get());
  state_ = std::move(state);
}

MPI_Comm topology::comm() const
{
  if (state_->user == MPI_COMM_NULL) {
    throw invalid_argument("the communicator of this topology has been freed");
  }
  return state_->user;
}

int topology::rank() const noexcept { return state_->rank; }
int topology::size() const noexcept { return state_->size; }
int topology::node() const noexcept { return state_->node_index; }
int topology::nodes() const noexcept { return state_->node_count; }
int topology::node_rank() const noexcept { return state_->node_rank; }
int topology::node_size() const noexcept { return state_->node_size(); }
const std::string& topology::host() const noexcept { return state_->host; }
int topology::lane() const noexcept { return state_->lane_index(); }
int topology::lanes() const noexcept { return state_->lane_count; }

int topology::node_of(int rank) const
{
  if (rank < 0 || rank >= state_->size) {
    throw invalid_argument("there is no rank " + std::to_string(rank) + ": the communicator has ranks 0 to " +
                           std::to_string(state_->size - 1));
  }
  return state_->node_of[static_cast<std::size_t>(rank)];
}

std::span<const int> topology::ranks_on(int node) const
{
  if (node < 0 || node >= state_->node_count) {
    throw invalid_argument("there is no node " + std::to_string(node) + ": the communicator spans nodes 0 to " +
                           std::to_string(state_->node_count - 1));
  }
  return state_->ranks_on[static_cast<std::size_t>(node)];
}

std::pair<std::size_t, std::size_t> topology::local_range(std::size_t count) const noexcept
{
  return block_of(count, static_cast<std::size_t>(state_->rank), static_cast<std::size_t>(state_->size));
}

MPI_Comm topology::node_comm() const
{
  (void)comm();
  return duplicate(state_->node, state_->user_node);
}

MPI_Comm topology::lane_comm() const
{
  (void)comm();
  // on one node a lane is this rank alone
  return duplicate(state_->node_count == 1 && lane() >= 0 ? MPI_COMM_SELF : state_->lane, state_->user_lane);
}

}  // namespace nodeshare
