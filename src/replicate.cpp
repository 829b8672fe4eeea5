// SPDX-License-Identifier: BSD-3-Clause
#include "nodeshare/replicate.hpp"

#include <algorithm>
#include <deque>

#include "meeting.hpp"
#include "nodeshare/error.hpp"
#include "pending_failure.hpp"

namespace nodeshare {
namespace {

constexpr std::size_t staged_at_once = std::size_t{4} << 20;
constexpr std::size_t chunk_blocks = 4096;
constexpr std::size_t in_flight = 4;

/// Cuts the runs of one node, as far as they are this lane's share, into chunks.
class chunks {
 public:
  chunks(std::span<const byte_run> runs, int node, int lane, int lanes) : runs_(runs), node_(node)
  {
    std::size_t total = 0;
    for (const byte_run& run : runs) {
      total += run.node == node ? run.bytes * run.count : 0;
    }
    const auto [first, last] = block_of(total, static_cast<std::size_t>(lane), static_cast<std::size_t>(lanes));
    skip_ = first;
    left_ = last - first;
  }

  [[nodiscard]] int node() const noexcept { return node_; }

  /// The next blocks, as offsets and lengths; false when there are none left.
  bool next(std::vector<MPI_Aint>& offsets, std::vector<int>& lengths)
  {
    offsets.clear();
    lengths.clear();
    std::size_t room = staged_at_once;
    while (room > 0 && left_ > 0 && offsets.size() < chunk_blocks) {
      const byte_run& run = runs_[run_];
      const std::size_t bytes = run.node == node_ ? run.bytes * run.count : 0;
      if (skip_ >= bytes) {
        skip_ -= bytes;
        ++run_;
        continue;
      }
      const std::size_t inside = skip_ % run.bytes;  // of the block that `skip_` falls into
      const std::size_t now = std::min({run.bytes - inside, room, left_});
      offsets.push_back(static_cast<MPI_Aint>(run.offset + skip_ / run.bytes * run.stride + inside));
      lengths.push_back(static_cast<int>(now));
      skip_ += now;
      left_ -= now;
      room -= now;
    }
    return !offsets.empty();
  }

 private:
  std::span<const byte_run> runs_;
  int node_;
  std::size_t run_ = 0;
  std::size_t skip_ = 0;  // bytes of the remaining runs that are done or another lane's
  std::size_t left_ = 0;
};

MPI_Request start(std::byte* base, int root, const std::vector<MPI_Aint>& offsets, const std::vector<int>& lengths,
                  MPI_Comm lane)
{
  MPI_Request request = MPI_REQUEST_NULL;
  if (offsets.size() == 1) {
    check_mpi(MPI_Ibcast(base + offsets[0], lengths[0], MPI_BYTE, root, lane, &request), "MPI_Ibcast");
    return request;
  }
  // many short blocks, as work dealt dynamically leaves them: one message, packed by MPI
  MPI_Datatype blocks = MPI_DATATYPE_NULL;
  check_mpi(MPI_Type_create_hindexed(static_cast<int>(offsets.size()), lengths.data(), offsets.data(), MPI_BYTE, &blocks),
            "MPI_Type_create_hindexed");
  check_mpi(MPI_Type_commit(&blocks), "MPI_Type_commit");
  const int code = MPI_Ibcast(base, 1, blocks, root, lane, &request);
  MPI_Type_free(&blocks);
  check_mpi(code, "MPI_Ibcast");
  return request;
}

/// This rank's lane: every node in turn sends a chunk, so that all of them send at the same time.
void transfer(const call& what, node& home, std::byte* base, std::span<const byte_run> runs)
{
  const topology_state& where = home.where();
  std::vector<chunks> sources;
  sources.reserve(static_cast<std::size_t>(where.node_count));
  for (int node = 0; node < where.node_count; ++node) {
    sources.emplace_back(runs, node, where.lane_index(), where.lane_count);
  }
  std::vector<MPI_Aint> offsets;
  std::vector<int> lengths;
  std::deque<MPI_Request> pending;
  const auto finish_first = [&] {
    home.meetings().finish(pending.front(), what, "MPI_Ibcast");
    pending.pop_front();
  };
  for (bool any = true; any;) {
    any = false;
    for (chunks& source : sources) {
      if (source.next(offsets, lengths)) {
        any = true;
        pending.push_back(start(base, source.node(), offsets, lengths, where.lane));
        if (pending.size() == in_flight) {
          finish_first();
        }
      }
    }
  }
  while (!pending.empty()) {
    finish_first();
  }
}

}  // namespace

void replicate(const call& what, const std::shared_ptr<segment>& memory, std::span<const byte_run> runs)
{
  node& home = *memory->home();
  meeting_place& meetings = home.meetings();
  const topology_state& where = home.where();
  failure refused;
  if (memory->is_protected()) {
    refused = {failure_kind::invalid_argument, "its pages are protected on this rank: allow writing to them first"};
  }
  meetings.agree(what, refused, scope::communicator, where.node_count > 1);
  if (where.node_count == 1) {
    return;
  }
  pending_failure trouble;
  if (where.lane_index() >= 0) {
    trouble.run([&] {
      try {
        meetings.require_lanes();
        transfer(what, home, memory->data(), runs);
      } catch (...) {
        (void)new std::shared_ptr<segment>(memory);  // MPI may still write into these pages: they stay for good
        throw;
      }
    });
  }
  trouble.agree(meetings, what, false);
}

void bcast(const std::shared_ptr<segment>& memory, int root, std::source_location where)
{
  node& home = *memory->home();
  const topology_state& state = home.where();
  const std::string arguments = "root=" + std::to_string(root) + ", " + memory->description();
  const call what("bcast", arguments, where);
  if (root < 0 || root >= state.size) {
    home.meetings().agree(what,
                          {failure_kind::invalid_argument, "root is " + std::to_string(root) + ", but ranks are 0 to " +
                                                               std::to_string(state.size - 1)},
                          scope::communicator, false);
  }
  const byte_run all{0, memory->size_bytes(), state.node_of[static_cast<std::size_t>(root)]};
  replicate(what, memory, {&all, 1});
}

void allgather(const call& what, const std::shared_ptr<segment>& memory, const row_layout& layout,
               std::span<const row_block> rows)
{
  std::vector<byte_run> runs;
  runs.reserve(rows.size());
  for (const row_block& block : rows) {
    if (block.last > block.first && layout.row_bytes > 0 && layout.columns > 0) {
      runs.push_back({layout.offset + block.first * layout.row_bytes, (block.last - block.first) * layout.row_bytes, block.node,
                      layout.rows * layout.row_bytes, layout.columns});
    }
  }
  replicate(what, memory, runs);
}

std::vector<row_block> default_owners(const node& where, std::size_t rows)
{
  const topology_state& state = where.where();
  std::vector<row_block> out;
  for (int rank = 0; rank < state.size; ++rank) {
    const auto [first, last] = block_of(rows, static_cast<std::size_t>(rank), static_cast<std::size_t>(state.size));
    const int node = state.node_of[static_cast<std::size_t>(rank)];
    if (!out.empty() && out.back().node == node) {
      out.back().last = last;
    } else {
      out.push_back({first, last, node});
    }
  }
  return out;
}

}  // namespace nodeshare
