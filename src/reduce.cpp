// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/reduce.hpp"

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <string>
#include <tuple>
#include <vector>

#include "combining.hpp"
#include "copying.hpp"
#include "meeting.hpp"
#include "pending_failure.hpp"
#include "wait.hpp"

namespace nodeshare {
namespace {

constexpr std::size_t combined_at_once = std::size_t{512} << 10;  // of each rank, twice: these stay in the cache
constexpr std::size_t range_bytes = std::size_t{4} << 20;    // between nodes

/// The elements of one call, and what to do with them.
struct task {
  const call& what;
  node& home;
  const combiner& by;
  std::byte* data;
  std::size_t count;

  [[nodiscard]] std::byte* at(std::size_t element) const { return data + element * by.element_bytes(); }
  [[nodiscard]] bool past_cache() const { return count * by.element_bytes() >= worth_streaming; }
};

std::size_t most_ranks_on_a_node(const topology_state& where)
{
  return std::ranges::max(where.ranks_on, {}, &std::vector<int>::size).size();
}

/// Whether the order of nodes, and of ranks on each, is the order of the ranks.
bool nodes_are_consecutive(const topology_state& where) { return std::ranges::is_sorted(where.node_of); }

failure invalid(const std::string& text) { return {failure_kind::invalid_argument, text}; }

/// What stands against an operation among these ranks.
failure objection_to(const combiner& by, const topology_state& where)
{
  if (!by.objection() && !by.commutes() && !nodes_are_consecutive(where)) {
    return invalid(
        "the operation does not commute, and the ranks of the nodes are not consecutive, so their order would be lost: "
        "place "
        "ranks in blocks (mpirun --map-by core, srun -m block), or make the operation as one that commutes");
  }
  return by.objection();
}

/// What stands against this rank's contribution.
failure objection_to(const contribution& mine, const task& work)
{
  const std::size_t bytes = work.count * work.by.element_bytes();
  const std::byte* from = mine.data.data();
  if (mine.put) {
    return {};
  }
  if (mine.data.size() != bytes) {
    return invalid("the contribution has " + bytes_text(mine.data.size()) + ", and the array " + bytes_text(bytes));
  }
  if (from != work.data && std::less()(from, work.data + bytes) && std::less()(work.data, from + bytes)) {
    return invalid("the contribution overlaps the array without being all of it: pass a copy");
  }
  return {};
}

/// By a rank that can't take part: stands for the others' first agreement. Throws on every rank, or on none.
void require_none(const failure& objection, const task& work)
{
  if (objection) {
    work.home.meetings().agree(work.what, objection, scope::communicator, false);
  }
}

/// Where the ranks of a node leave chunks of their contributions for each other. Two chunks a rank: while one is
/// combined, the next is written, so that a meeting each is enough.
class staging {
 public:
  staging(std::size_t ranks, std::size_t count, std::size_t element_bytes)
      : ranks_(ranks),
        chunk_(std::min(count, combined_at_once / element_bytes)),
        slot_((chunk_ * element_bytes + 63) / 64 * 64)
  {}

  [[nodiscard]] std::size_t chunk() const { return chunk_; }
  [[nodiscard]] std::size_t size_bytes() const { return 2 * ranks_ * slot_; }
  [[nodiscard]] std::byte* slot(std::byte* base, std::size_t turn, std::size_t rank) const
  {
    return base + (turn % 2 * ranks_ + rank) * slot_;
  }

 private:
  std::size_t ranks_;
  std::size_t chunk_;  // elements
  std::size_t slot_;   // bytes
};

/// Of the elements [first, first + count), puts those where others will read them; [begin, end) this rank combines
/// itself.
void stage(const contribution& mine, std::size_t first, std::size_t count, std::size_t begin, std::size_t end,
           std::size_t element_bytes, std::byte* slot)
{
  if (mine.put) {
    mine.put(first, count, slot);
    return;
  }
  const std::byte* from = mine.data.data() + first * element_bytes;
  std::memcpy(slot, from, begin * element_bytes);
  std::memcpy(slot + end * element_bytes, from + end * element_bytes, (count - end) * element_bytes);
}

/// The contributions of a node's ranks, combined, into its array.
void reduce_on_node(const task& work, const staging& chunks, std::byte* shared, const contribution& mine)
{
  const topology_state& where = work.home.where();
  const auto ranks = static_cast<std::size_t>(where.node_size());
  const auto me = static_cast<std::size_t>(where.node_rank);
  const std::size_t bytes = work.by.element_bytes();
  std::vector<const std::byte*> from(ranks);
  pending_failure trouble;  // of this rank alone: the others still need it at their meetings
  for (std::size_t first = 0, turn = 0; first < work.count; first += chunks.chunk(), ++turn) {
    const std::size_t count = std::min(chunks.chunk(), work.count - first);
    const auto [begin, end] = block_of(count, me, ranks);
    trouble.run(
        [&, begin = begin, end = end] { stage(mine, first, count, begin, end, bytes, chunks.slot(shared, turn, me)); });
    work.home.meetings().agree(work.what, {}, scope::node, true);
    for (std::size_t rank = 0; rank < ranks; ++rank) {
      from[rank] = chunks.slot(shared, turn, rank) + begin * bytes;
    }
    if (!mine.put) {
      from[me] = mine.data.data() + (first + begin) * bytes;
    }
    trouble.run(
        [&, begin = begin, end = end] { work.by.fold(from, end - begin, work.at(first + begin), work.past_cache()); });
  }
  trouble.rethrow();
}

/// On a node of one rank.
void put_alone(const task& work, std::size_t chunk, const contribution& mine)
{
  if (!mine.put) {
    const std::byte* from = mine.data.data();
    work.by.fold({&from, 1}, work.count, work.data, work.past_cache());
    return;
  }
  for (std::size_t first = 0; first < work.count; first += chunk) {
    mine.put(first, std::min(chunk, work.count - first), work.at(first));
  }
}

/// A range of this lane's share, of which each node combines a block. MPI uses it until the request is done.
struct range {
  std::size_t first = 0;  ///< element
  std::size_t count = 0;
  std::vector<int> bytes, offsets;        ///< of each node's block, from the range's beginning
  std::vector<int> my_bytes, my_offsets;  ///< of this node's block as each node has it, in `received`
  std::vector<std::byte> received;
  MPI_Request request = MPI_REQUEST_NULL;
};

/// This rank's lane: each node combines its block of a range, from all nodes in their order, and gives it to all. While
/// one range is combined, the next is on its way here, and the last on its way to the others.
class lane_reduction {
 public:
  explicit lane_reduction(const task& work) : work_(work), where_(work.home.where())
  {
    std::tie(next_, end_) = block_of(work.count, static_cast<std::size_t>(where_.lane_index()),
                                     static_cast<std::size_t>(where_.lane_count));
  }

  void run()
  {
    try {
      collect(at(0));
      for (std::size_t turn = 0; at(turn).count > 0; ++turn) {
        collect(at(turn + 1));
        finish(at(turn), "MPI_Ialltoallv");
        combine(at(turn));
        finish(at(turn + 2), "MPI_Iallgatherv");  // of the turn before
        give(at(turn));
      }
      for (range& one : *ranges_) {
        finish(one, "MPI_Iallgatherv");
      }
    } catch (...) {
      leave_to_mpi(ranges_);
      throw;
    }
  }

 private:
  range& at(std::size_t turn) { return (*ranges_)[turn % ranges_->size()]; }

  /// Starts to bring the blocks of the next range, which may be empty, to the nodes that combine them.
  void collect(range& out)
  {
    const std::size_t bytes = work_.by.element_bytes();
    const auto nodes = static_cast<std::size_t>(where_.node_count);
    out.first = next_;
    out.count = std::min(range_bytes / bytes, end_ - next_);
    next_ += out.count;
    out.bytes.resize(nodes);
    out.offsets.resize(nodes);
    out.my_offsets.resize(nodes);
    for (std::size_t node = 0; node < nodes; ++node) {
      const auto [begin, end] = block_of(out.count, node, nodes);
      out.offsets[node] = static_cast<int>(begin * bytes);
      out.bytes[node] = static_cast<int>((end - begin) * bytes);
    }
    const int mine = out.bytes[me()];
    out.my_bytes.assign(nodes, mine);
    for (std::size_t node = 0; node < nodes; ++node) {
      out.my_offsets[node] = static_cast<int>(node) * mine;
    }
    out.received.resize(nodes * static_cast<std::size_t>(mine));
    if (out.count > 0) {
      check_mpi(MPI_Ialltoallv(work_.at(out.first), out.bytes.data(), out.offsets.data(), MPI_BYTE, out.received.data(),
                               out.my_bytes.data(), out.my_offsets.data(), MPI_BYTE, where_.lane, &out.request),
                "MPI_Ialltoallv");
    }
  }

  void combine(const range& one)
  {
    std::vector<const std::byte*> from;
    from.reserve(one.my_offsets.size());
    for (const int offset : one.my_offsets) {
      from.push_back(one.received.data() + offset);
    }
    const auto count = static_cast<std::size_t>(one.bytes[me()]) / work_.by.element_bytes();
    work_.by.fold(from, count, work_.at(one.first) + one.offsets[me()], false);
  }

  void give(range& one)
  {
    check_mpi(MPI_Iallgatherv(MPI_IN_PLACE, 0, MPI_BYTE, work_.at(one.first), one.bytes.data(), one.offsets.data(),
                              MPI_BYTE, where_.lane, &one.request),
              "MPI_Iallgatherv");
  }

  void finish(range& one, const char* routine) { work_.home.meetings().finish(one.request, work_.what, routine); }

  [[nodiscard]] std::size_t me() const { return static_cast<std::size_t>(where_.node_index); }

  const task& work_;
  const topology_state& where_;
  std::size_t next_ = 0;  // element
  std::size_t end_ = 0;
  std::shared_ptr<std::array<range, 3>> ranges_ = std::make_shared<std::array<range, 3>>();
};

/// Collective over the communicator, which has agreed on it. Between the nodes, where there are several.
void reduce_between_nodes(const task& work, const std::shared_ptr<segment>& memory)
{
  if (work.home.where().node_count == 1) {
    return;
  }
  pending_failure trouble;
  if (work.home.where().lane_index() >= 0) {
    trouble.run([&] {
      try {
        work.home.meetings().require_lanes();
        lane_reduction(work).run();
      } catch (...) {
        (void)new std::shared_ptr<segment>(memory);  // MPI may still write into these pages: they stay for good
        throw;
      }
    });
  }
  trouble.agree(work.home.meetings(), work.what, false);
}

}  // namespace

void allreduce(const call& what, const std::shared_ptr<segment>& memory, const element_block& where,
               const reduction& how, const contribution& mine)
{
  node& home = *memory->home();
  meeting_place& meetings = home.meetings();
  const combiner by(how);
  const task work{what, home, by, memory->data() + where.offset, where.count};
  require_none(objection_to(by, home.where()), work);
  require_none(objection_to(mine, work), work);
  const std::size_t ranks = most_ranks_on_a_node(home.where());
  const staging chunks(ranks, where.count, by.element_bytes());
  std::shared_ptr<segment> shared;
  if (ranks > 1 && where.count > 0) {
    shared = home.create(what, {.bytes = chunks.size_bytes(), .holds = content::unspecified}, true);
  } else {
    meetings.agree(what, {}, scope::communicator, true);
  }
  pending_failure trouble;
  trouble.run([&] {
    if (home.where().node_size() > 1) {
      reduce_on_node(work, chunks, shared ? shared->data() : nullptr, mine);
    } else {
      put_alone(work, chunks.chunk(), mine);
    }
  });
  trouble.agree(meetings, what, home.where().node_count > 1);
  reduce_between_nodes(work, memory);
}

void allreduce_copies(const call& what, const std::shared_ptr<segment>& memory, const element_block& where,
                      const reduction& how)
{
  node& home = *memory->home();
  const combiner by(how);
  const task work{what, home, by, memory->data() + where.offset, where.count};
  require_none(objection_to(by, home.where()), work);
  home.meetings().agree(what, {}, scope::communicator, home.where().node_count > 1);
  reduce_between_nodes(work, memory);
}

}  // namespace nodeshare
