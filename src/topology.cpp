// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/topology.hpp"

#include <algorithm>
#include <cstdio>
#include <mutex>
#include <set>
#include <utility>
#include <vector>

#include "failure.hpp"
#include "farewell.hpp"
#include "linux.hpp"
#include "nodeshare/error.hpp"
#include "numa.hpp"
#include "settings.hpp"
#include "topology_state.hpp"
#include "wait.hpp"

namespace nodeshare {
namespace {

constexpr int most_lanes = 8;

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

void require_usable(MPI_Comm comm)
{
  int initialized = 0;
  int ended = 0;
  MPI_Initialized(&initialized);
  MPI_Finalized(&ended);
  if (initialized == 0) {
    throw error("MPI has not been initialised: call MPI_Init or MPI_Init_thread before nodeshare");
  }
  if (ended != 0) {
    throw error("MPI has been finalised: views stay valid, but ranks no longer meet");
  }
  require_meetings();
  if (comm == MPI_COMM_NULL) {
    throw invalid_argument("the communicator is MPI_COMM_NULL: pass one that this rank belongs to");
  }
  int inter = 0;
  check_mpi(MPI_Comm_test_inter(comm, &inter), "MPI_Comm_test_inter");
  if (inter != 0) {
    throw invalid_argument(
        "an inter-communicator has two groups that share nothing: pass an intra-communicator (MPI_Intercomm_merge)");
  }
  int world = 1;
  check_mpi(MPI_Comm_size(MPI_COMM_WORLD, &world), "MPI_Comm_size");
  std::string name;
  if (const int launched = ranks_by_launcher(name); world == 1 && launched > 1) {
    char version[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int length = 0;
    MPI_Get_library_version(version, &length);
    const std::string library(version, static_cast<std::size_t>(length));
    throw invalid_argument("the launcher started " + std::to_string(launched) + " ranks (" + name +
                           "), but MPI_COMM_WORLD has 1: it does not belong to the MPI library in use, " +
                           library.substr(0, library.find_first_of(",\n")) + "; use that library's own mpiexec");
  }
}

/// The first meeting of a communicator's ranks: no page of ours exists yet, so it is MPI's, but with messages.
void meet_first(MPI_Comm comm, double patience, const std::string& place)
{
  MPI_Request request = MPI_REQUEST_NULL;
  check_mpi(MPI_Ibarrier(comm, &request), "MPI_Ibarrier");
  int rank = 0;
  int size = 1;
  MPI_Comm_rank(comm, &rank);
  MPI_Comm_size(comm, &size);
  double report = patience;
  std::string ended;
  const bool met = wait_for(request, "MPI_Ibarrier", [&](double seconds) {
    if (seconds >= report) {
      std::fprintf(stderr,
                   "nodeshare: rank %d waits at %s for %.0f s: not all %d ranks of the communicator have come to their "
                   "first nodeshare call on it (is the call inside `if rank == 0:`? it is collective)\n",
                   rank, place.c_str(), seconds, size);
      report *= 2;
    }
    ended = farewell_of(comm);
    return ended.empty() && (hooks.interrupted == nullptr || !hooks.interrupted());
  });
  if (!ended.empty()) {
    throw peer_error(ended + ", while rank " + std::to_string(rank) + " was at " + place +
                     " in the communicator's first nodeshare call, which is collective: is it inside `if rank == 0:`?");
  }
  if (!met) {
    throw interrupted("interrupted while waiting for the communicator's other ranks");
  }
}

settings agree_settings(MPI_Comm all, int rank)
{
  failure why;
  settings out;
  char text[512] = "";
  if (rank == 0) {
    out = read_settings(why);
    std::snprintf(text, sizeof text, "%s", why.text.c_str());
  }
  check_mpi(MPI_Bcast(text, sizeof text, MPI_CHAR, 0, all), "MPI_Bcast");
  if (text[0] != '\0') {
    throw invalid_argument(text);
  }
  check_mpi(MPI_Bcast(&out, sizeof out, MPI_BYTE, 0, all), "MPI_Bcast");
  return out;
}

MPI_Comm split(MPI_Comm comm, int color, int key)
{
  MPI_Comm out = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split(comm, color, key, &out), "MPI_Comm_split");
  if (out != MPI_COMM_NULL) {
    MPI_Comm_set_errhandler(out, MPI_ERRORS_RETURN);
  }
  return out;
}

/// Index of the pretend node that rank `rank` of `size` belongs to.
int pretend_node(const settings& chosen, int rank, int size)
{
  std::vector<int> sizes;
  for (int placed = 0; placed < size; placed += sizes.back()) {
    sizes.push_back(chosen.placement[sizes.size() % static_cast<std::size_t>(chosen.placement_count)]);
  }
  if (chosen.cyclic != 0) {
    return rank % static_cast<int>(sizes.size());
  }
  int node = 0;
  for (int last = sizes[0]; rank >= last; last += sizes[static_cast<std::size_t>(node)]) {
    ++node;
  }
  return node;
}

/// Ranks that MPI believes to share memory, split again by what the kernel says: containers share a host name only.
MPI_Comm split_by_memory(topology_state& state)
{
  MPI_Comm host = MPI_COMM_NULL;
  check_mpi(MPI_Comm_split_type(state.all, MPI_COMM_TYPE_SHARED, state.rank, MPI_INFO_NULL, &host),
            "MPI_Comm_split_type");
  int rank = 0;
  int size = 1;
  MPI_Comm_rank(host, &rank);
  MPI_Comm_size(host, &size);
  const std::uint64_t mine = linux_api::sharing_domain();
  std::vector<std::uint64_t> domains(static_cast<std::size_t>(size));
  check_mpi(MPI_Allgather(&mine, 1, MPI_UINT64_T, domains.data(), 1, MPI_UINT64_T, host), "MPI_Allgather");
  const int color = static_cast<int>(std::find(domains.begin(), domains.end(), mine) - domains.begin());
  MPI_Comm sharing = split(host, color, rank);
  MPI_Comm_free(&host);
  MPI_Comm_size(sharing, &state.ranks_on_host);
  if (state.chosen.placement_count > 0) {
    MPI_Comm_rank(sharing, &rank);
    MPI_Comm pretend = split(sharing, pretend_node(state.chosen, rank, state.ranks_on_host), rank);
    MPI_Comm_free(&sharing);
    return pretend;
  }
  return sharing;
}

/// Ranks that ask for a topology each of its own kind would wait for each other in different calls of MPI.
void agree_on(per each, MPI_Comm all)
{
  int least_and_most[2] = {static_cast<int>(each), -static_cast<int>(each)};
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, least_and_most, 2, MPI_INT, MPI_MIN, all), "MPI_Allreduce");
  if (least_and_most[0] != -least_and_most[1]) {
    throw mismatch(
        "some ranks of the communicator ask for its topology per node, others for that per NUMA domain: ask for the same "
        "on all");
  }
}

/// The ranks of a node, which end with this, split by the NUMA domain that each is bound to.
MPI_Comm split_by_domain(const topology_state& state, MPI_Comm node)
{
  int rank = 0;
  MPI_Comm_rank(node, &rank);
  int domain = 0;
  const failure trouble = find_domain(linux_api::processors(), numa_domains(), domain);
  MPI_Comm out = split(node, domain, rank);
  MPI_Comm_free(&node);
  int first = trouble ? state.rank : state.size;
  check_mpi(MPI_Allreduce(MPI_IN_PLACE, &first, 1, MPI_INT, MPI_MIN, state.all), "MPI_Allreduce");
  if (first < state.size) {
    MPI_Comm_free(&out);
    char text[512] = "";
    std::snprintf(text, sizeof text, "rank %d on %s can have no array per NUMA domain: %s", state.rank,
                  state.host.c_str(), trouble.text.c_str());
    check_mpi(MPI_Bcast(text, sizeof text, MPI_CHAR, first, state.all), "MPI_Bcast");
    throw invalid_argument(text);
  }
  return out;
}

void number_nodes(topology_state& state)
{
  MPI_Comm_rank(state.node, &state.node_rank);
  int lowest = state.rank;
  check_mpi(MPI_Bcast(&lowest, 1, MPI_INT, 0, state.node), "MPI_Bcast");
  const auto size = static_cast<std::size_t>(state.size);
  std::vector<int> lowest_of(size);
  check_mpi(MPI_Allgather(&lowest, 1, MPI_INT, lowest_of.data(), 1, MPI_INT, state.all), "MPI_Allgather");
  std::vector<int> index_of(size, -1);  // by a node's lowest rank
  state.node_of.resize(size);
  for (std::size_t rank = 0; rank < size; ++rank) {
    int& index = index_of[static_cast<std::size_t>(lowest_of[rank])];
    if (index < 0) {
      index = static_cast<int>(state.ranks_on.size());
      state.ranks_on.emplace_back();
    }
    state.node_of[rank] = index;
    state.ranks_on[static_cast<std::size_t>(index)].push_back(static_cast<int>(rank));
  }
  state.node_index = state.node_of[static_cast<std::size_t>(state.rank)];
  state.node_count = static_cast<int>(state.ranks_on.size());
  state.lane_count = most_lanes;
  for (const auto& ranks : state.ranks_on) {
    state.lane_count = std::min(state.lane_count, static_cast<int>(ranks.size()));
  }
  if (state.node_count > 1) {
    const int lane = state.lane_index();
    state.lane = split(state.all, lane < 0 ? MPI_UNDEFINED : lane, state.node_index);
  }
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
