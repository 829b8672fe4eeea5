// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/node.hpp"

#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <set>
#include <span>

#include "cgroup.hpp"
#include "farewell.hpp"
#include "filling.hpp"
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

const failure no_failure;
constexpr std::chrono::milliseconds last_words_wait{100};
constexpr std::size_t worth_asking_memory = std::size_t{1} << 20;

failure out_of_memory(std::string text) { return {failure_kind::out_of_shared_memory, std::move(text)}; }

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
  (void)linux_api::forked();  // begins to watch for forks
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
    node::end("MPI_Finalize");
    free_windows();
  };
}

node::~node()
{
  const std::lock_guard lock(nodes().mutex);
  nodes().live.erase(this);
}

void node::end(std::string_view how) noexcept
{
  if (may_call_mpi()) {
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    leave_farewell(rank, how);
  }
  const std::lock_guard lock(nodes().mutex);
  for (node* one : nodes().live) {
    one->meetings_->end(how);
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

void node::meet(const call& what) { meetings_->agree(what, no_failure, scope::node, false); }
void node::agree(const call& what, bool more) { meetings_->agree(what, no_failure, scope::communicator, more); }

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

namespace {

constexpr std::size_t step_bytes = std::size_t{64} << 20;

/// Each rank that maps bytes pays their page tables too.
std::size_t with_page_tables(std::size_t bytes, int ranks) { return bytes + bytes / 512 * static_cast<std::size_t>(ranks); }

/// Leaves in this rank's record what its control groups leave it. Whatever goes over a group's limit is killed, so it is
/// the only limit that no call answers.
void look_at_group(rank_record& mine, std::size_t bytes)
{
  const auto group = bytes >= worth_asking_memory ? headroom() : std::nullopt;
  mine.group = group ? std::hash<std::string>{}(group->group) | 1 : 0;
  mine.group_leaves = group ? group->bytes : 0;
  std::snprintf(mine.group_text, sizeof mine.group_text, "%s",
                group ? (bytes_text(group->bytes) + " of " + bytes_text(group->limit) + " are left in the control group " +
                         group->group)
                            .c_str()
                      : "");
}

constexpr const char* group_remedy = ": ask for more memory (Slurm: --mem, a container: --memory), use more nodes, or make "
                                     "the array smaller";

/// By the leader: a group pays for the pages that its ranks touch first, their blocks of the array.
failure look_at_groups(const control_page& page, std::size_t bytes)
{
  for (int rank = 0; rank < page.ranks; ++rank) {
    const rank_record& one = page.record(rank);
    if (one.group == 0) {
      continue;
    }
    std::size_t members = 0;
    for (int other = 0; other < page.ranks; ++other) {
      members += page.record(other).group == one.group ? 1 : 0;
    }
    const auto ranks = static_cast<std::size_t>(page.ranks);
    if (one.group_leaves < bytes / ranks * members + bytes / 512 * members) {
      return out_of_memory(one.group_text + std::string(group_remedy));
    }
  }
  return {};
}

/// A look, now and then while pages are taken, at what the control groups leave: other programs take memory too.
look_ahead look_ahead_of(int ranks)
{
  return [ranks, unseen = std::size_t{0}](std::size_t bytes) mutable -> failure {
    unseen += bytes;
    if (unseen < step_bytes) {
      return {};
    }
    unseen = 0;
    const auto group = headroom();
    return group && group->bytes < with_page_tables(step_bytes, 1) * static_cast<std::size_t>(ranks)
               ? out_of_memory(bytes_text(group->bytes) + " are left in the control group " + group->group + group_remedy)
               : failure{};
  };
}

/// Makes this rank's pages present.
failure populate(std::span<std::byte> mine, int ranks)
{
  const look_ahead look = look_ahead_of(ranks);
  for (std::size_t done = 0; done < mine.size(); done += step_bytes) {
    const std::size_t step = std::min(step_bytes, mine.size() - done);
    failure trouble = look(step);
    if (!trouble) {
      trouble = linux_api::populate(mine.data() + done, step);
    }
    if (trouble) {
      return trouble;
    }
  }
  return {};
}

/// What stands in the way of `bytes` here; also leaves in this rank's record which memory it could take part in.
failure look_at_limits(const topology_state& where, rank_record& mine, const std::string& window_directory,
                       std::size_t bytes, bool reserve)
{
  mine.window_possible = mine.memfd_possible = false;
  failure trouble;
  if (bytes > (std::size_t{1} << 62)) {
    return out_of_memory("no machine has that much memory");
  }
  look_at_group(mine, reserve ? bytes : 0);
  if (reserve && bytes >= worth_asking_memory) {
    const auto needed = with_page_tables(bytes, where.node_size());
    if (const auto available = linux_api::memory_available(); available && *available < needed) {
      return out_of_memory(bytes_text(*available) +
                           " of memory are available there: make the array smaller, use more nodes or nodes with more "
                           "memory, or see what else runs there");
    }
  }
  const memory_kind preferred = preferred_memory(where);
  const bool window_allowed = preferred != memory_kind::memfd;
  const bool memfd_allowed = !window_allowed || where.chosen.memory == memory_setting::automatic;
  if (memfd_allowed) {
    trouble = memfd_provider.look(bytes, "");
    mine.memfd_possible = !trouble;
  }
  if (window_allowed) {
    const failure window_trouble = provider_of(preferred).look(bytes, window_directory);
    mine.window_possible = !window_trouble;
    if (window_trouble && !mine.memfd_possible) {
      trouble = window_trouble;
    }
  }
  return mine.window_possible || mine.memfd_possible ? failure{} : trouble;
}

/// By the leader, after all have looked: the memory that every rank of the node could take part in.
failure choose_memory(const topology_state& where, control_page& page, memory_kind& out)
{
  bool window = true;
  bool memfd = true;
  bool all_possible = true;
  for (int rank = 0; rank < page.ranks; ++rank) {
    const rank_record& one = page.record(rank);
    window = window && one.window_possible;
    memfd = memfd && one.memfd_possible;
    all_possible = all_possible && (one.window_possible || one.memfd_possible);
  }
  out = window ? preferred_memory(where) : memory_kind::memfd;
  if (!all_possible) {
    return out_of_memory("");  // the rank that can't says why
  }
  return window || memfd ? failure{}
                         : out_of_memory("its ranks have no kind of memory in common; set NODESHARE_MEMORY to window or memfd");
}

/// By the leader: a free place for a segment's word, which counts all ranks from now on.
failure take_place(control_page& page, std::uint32_t& next, bool reserve, std::uint32_t& out)
{
  for (std::uint32_t tried = 0; tried < most_segments; ++tried) {
    const std::uint32_t place = next++ % most_segments;
    auto& word = page.word_of(place);
    const std::size_t page_size = linux_api::page_size();
    if (const auto start = reinterpret_cast<std::uintptr_t>(&word); start % page_size == 0) {
      if (const failure trouble = linux_api::populate(reinterpret_cast<std::byte*>(start), page_size)) {
        return trouble;
      }
    }
    if (word.load(std::memory_order_acquire) == 0) {
      word.store(static_cast<std::uint64_t>(page.ranks) * (segment_word::holder + segment_word::mapping) +
                     (reserve ? segment_word::reserved : 0),
                 std::memory_order_relaxed);
      out = place;
      return {};
    }
  }
  return out_of_memory(std::to_string(most_segments) + " arrays are alive on this node: close some, or make fewer and "
                                                       "larger ones");
}

/// This rank's block of a segment's pages.
std::span<std::byte> my_pages(const topology_state& where, const mapping& memory, std::size_t bytes)
{
  const std::size_t page = linux_api::page_size();
  const auto [first, last] = block_of(pages_for(bytes) / page, static_cast<std::size_t>(where.node_rank),
                                      static_cast<std::size_t>(where.node_size()));
  return {memory.address + first * page, (last - first) * page};
}

/// This rank's share of making used pages as good as new.
failure take_used_pages(std::span<std::byte> mine, int ranks, bool reserve, bool reserved, content wanted)
{
  if (wanted == content::zeros && !reserve && linux_api::punch(mine.data(), mine.size())) {
    return {};  // nothing is taken before it is touched
  }
  if ((reserve || wanted == content::zeros) && !reserved) {
    if (failure trouble = populate(mine, ranks)) {
      return trouble;
    }
  }
  if (wanted == content::zeros) {
    std::fill(mine.begin(), mine.end(), std::byte{0});
  }
  return {};
}

}  // namespace

std::shared_ptr<segment> node::create(const call& what, const memory_request& wanted, bool more)
{
  meetings_->require_communicator();
  try {
    return try_to_create(what, wanted, more);
  } catch (const out_of_shared_memory&) {
    give_way(what);  // as all ranks do: a lack of memory is agreed on
  }
  return try_to_create(what, wanted, more);
}

std::shared_ptr<segment> node::try_to_create(const call& what, const memory_request& wanted, bool more)
{
  control_page& page = meetings_->page();
  segment_plan& plan = page.header().plan;
  const bool leads = where_->node_rank == 0;
  const auto in_full = [&](failure trouble) {
    if (!trouble.text.empty()) {
      trouble.text = std::string(what.name) + " needs " + bytes_text(wanted.bytes) + " on each node: " + trouble.text;
    }
    return trouble;
  };

  rank_record& mine = page.record(where_->node_rank);
  mine.source = reinterpret_cast<std::uintptr_t>(wanted.data);
  mine.claimed.store(0, std::memory_order_relaxed);
  const failure objection =
      in_full(look_at_limits(*where_, mine, window_directory_, wanted.bytes, wanted.reserve));
  bool planned = false;
  try {
    meetings_->agree(what, objection, scope::communicator, true, [&] {
      const failure trouble = in_full(make_plan(wanted, plan));
      planned = !trouble;
      return trouble;
    });
  } catch (...) {
    if (planned) {
      drop_plan(plan);
    }
    throw;
  }

  const segment_plan chosen = plan;
  segment_parts parts;
  parts.bytes = wanted.bytes;
  parts.kind = chosen.kind;
  parts.owner = recycler_.get();
  parts.place = chosen.place;
  parts.word = &page.word_of(chosen.place);
  parts.home = shared_from_this();
  recycler_->drop_retired();
  recycler_->free_windows();
  try {
    meetings_->agree(what, in_full(take_memory(chosen, wanted, parts)), scope::communicator, more);
  } catch (...) {
    if (!chosen.recycled) {
      parts.word->fetch_or(segment_word::retired, std::memory_order_relaxed);
    }
    recycler_->let_go(parts);
    throw;
  }
  if (chosen.recycled && wanted.reserve && leads && parts.mapped.bytes == pages_for(wanted.bytes)) {
    parts.word->fetch_or(segment_word::reserved, std::memory_order_relaxed);
  }
  static const std::uint64_t files = linux_api::raise_open_files();
  if (parts.mapped.file >= 0 && static_cast<std::uint64_t>(parts.mapped.file) > files / 2) {
    ::close(std::exchange(parts.mapped.file, -1));  // works on without; it can't be pickled to other processes
  }
  parts.id = ++segments_;
  parts.description = text_of(what);
  return make_segment(std::move(parts));
}

/// By the leader, when all have let go of what they will: where the memory is to come from.
failure node::make_plan(const memory_request& wanted, segment_plan& plan)
{
  control_page& page = meetings_->page();
  plan = {};
  const bool recycled = recycler_->choose(wanted.bytes, plan);
  recycler_->choose_windows_to_free();
  if (recycled) {
    return {};
  }
  failure trouble = choose_memory(*where_, page, plan.kind);
  if (!trouble) {
    trouble = look_at_groups(page, wanted.bytes);
  }
  if (trouble) {
    return trouble;
  }
  trouble = take_place(page, next_place_, wanted.reserve, plan.place);
  if (!trouble && (trouble = provider_of(plan.kind).offer(wanted.bytes, plan.offered))) {
    page.word_of(plan.place).store(0, std::memory_order_release);
  }
  return trouble;
}

/// By the leader: another node can't.
void node::drop_plan(const segment_plan& plan)
{
  if (plan.recycled) {
    recycler_->give_up(plan);
    return;
  }
  if (plan.offered.file >= 0) {
    ::close(plan.offered.file);
  }
  meetings_->page().word_of(plan.place).store(0, std::memory_order_release);
}

/// Between the two agreements of a creation: whatever goes wrong here is reported in the second, so all come to it.
failure node::take_memory(const segment_plan& chosen, const memory_request& wanted, segment_parts& parts)
{
  if (chosen.recycled) {
    parts.mapped = recycler_->take(chosen.place);
  } else {
    const provider& source = provider_of(chosen.kind);
    if (failure trouble = source.map(where_->node, where_->node_rank == 0, chosen.offered, parts.bytes, parts.mapped)) {
      return trouble;
    }
    linux_api::advise(parts.mapped.address, parts.mapped.bytes);  // before pages are taken, or they are small ones
  }
  const bool reserved = chosen.recycled && (parts.word->load(std::memory_order_relaxed) & segment_word::reserved) != 0;
  const int ranks = where_->node_size();
  if (wanted.source >= 0 && where_->node_of[static_cast<std::size_t>(wanted.source)] == where_->node_index) {
    const auto& all = where_->ranks_on[static_cast<std::size_t>(where_->node_index)];
    const auto root = static_cast<int>(std::find(all.begin(), all.end(), wanted.source) - all.begin());
    return fill(meetings_->page(), where_->node_rank, root, parts, !reserved, look_ahead_of(ranks));
  }
  const std::span<std::byte> mine = my_pages(*where_, parts.mapped, parts.bytes);
  // New pages that hold something already (a stale backing file, a device that placed them) are given back: fresh ones
  // are zero. Where that can't be, they are as good as used ones.
  if (!chosen.recycled && linux_api::punch(mine.data(), mine.size())) {
    return wanted.reserve ? populate(mine, ranks) : failure{};
  }
  return take_used_pages(mine, ranks, wanted.reserve, reserved, wanted.holds);
}

/// Collective over the communicator: idle memory goes, and what only garbage holds; of other communicators too.
void node::give_way(const call& what)
{
  if (hooks.collect_garbage != nullptr) {
    hooks.collect_garbage();
  }
  meetings_->agree(what, no_failure, scope::communicator, true);  // all have let go of what they will
  {
    const std::lock_guard lock(nodes().mutex);
    for (node* one : nodes().live) {
      one->recycler_->drop_idle();
    }
  }
  free_dropped(what, true);
}

void node::trim(const call& what)
{
  meetings_->agree(what, no_failure, scope::communicator, true);
  recycler_->drop_idle();
  free_dropped(what, false);
}

/// Collective over the communicator, when every rank has dropped what it kept.
void node::free_dropped(const call& what, bool more)
{
  meetings_->agree(what, no_failure, scope::communicator, more, [&]() -> failure {
    recycler_->choose_windows_to_free();
    return {};
  });
  recycler_->free_windows();
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

}  // namespace nodeshare
