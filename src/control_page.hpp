// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// The layout of the memory through which the ranks of a node meet.
#pragma once

#include <sched.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "failure.hpp"
#include "provider.hpp"

namespace nodeshare {

/// Whether meeting `a` lies before meeting `b`; the counters may wrap.
constexpr bool before(std::uint32_t a, std::uint32_t b) noexcept { return static_cast<std::int32_t>(a - b) < 0; }

/// How a rank's part in the job ended.
enum ending : std::uint32_t { not_yet = 0, as_planned = 1, by_failure = 2 };

/// What a rank came with to its latest meetings, written by it, read by all: four ranks share a cache line, so that one
/// transfer tells of all who came, and two ranks that meet again and again hand one line back and forth. Meeting `n`
/// uses the word of parity `n % 2`: nobody can be two meetings ahead of a rank that still reads.
struct rank_arrivals {
  /// The call's hash, 32 bits, and the meeting's number below: one word, so that a peer that polls it has both. Futex
  /// words.
  std::atomic<std::uint64_t> of[2];

  static constexpr std::uint64_t word(std::uint32_t number, std::uint64_t digest) noexcept
  {
    return (digest ^ digest >> 32) << 32 | number;
  }
  static constexpr bool is_at(std::uint64_t word, std::uint32_t number) noexcept
  {
    return !before(static_cast<std::uint32_t>(word), number);
  }
  bool came_to(std::uint32_t number) const noexcept
  {
    return is_at(of[number % 2].load(std::memory_order_acquire), number);
  }
};

/// What else a rank's peers look at in a meeting, and seldom changes. In a cache line of its own: while the arrivals
/// are on their way, a load beside them waits.
struct alignas(64) rank_line {
  std::atomic<std::uint32_t> sleepers;   ///< how many sleep on its arrival
  std::atomic<std::uint64_t> withdrawn;  ///< meeting * 4 + withdrawal: left although not all had come
  std::atomic<std::uint32_t> ended;      ///< an `ending`
};

/// Cut where it is longer than its place.
template <std::size_t room>
void copy_text(char (&to)[room], std::string_view text) noexcept
{
  to[text.copy(to, room - 1)] = '\0';
}

enum withdrawal : std::uint64_t { undecided = 1, broken = 2, completed = 3 };

/// What a rank says about itself, in words; read by others only after a "no", or when they have waited long.
struct rank_record {
  std::int32_t pid;
  std::uint64_t start_time;
  cpu_set_t processors;
  bool window_possible, memfd_possible;  ///< its limits, for the segment being made
  std::uint64_t source, sources;         ///< address and number of its `source_piece`s, if the segment is to hold them
  std::atomic<std::size_t> claimed;      ///< chunks of its block of the segment that are being filled: see filling.cpp
  std::uint64_t group;                   ///< hash of its control group's name, 0: none has a limit
  std::uint64_t group_leaves;            ///< bytes
  char group_text[256];
  failure_kind kind;                     ///< of its failure in the call being explained
  bool over_communicator;
  char text[1024];
  char called[512];
  std::atomic<std::uint32_t> waits_in;  ///< number of the meeting it has waited in for long, 0: none
  std::int64_t waits_since;             ///< std::chrono::steady_clock, the same for all processes of a machine
  char waits_call[512];
  std::atomic<bool> waits_elsewhere;    ///< for other nodes, in a request
  char ended_how[512];
};

/// What the leader tells its node about itself and the other nodes.
struct verdict {
  failure_kind kind;        ///< none: all is well
  std::uint32_t exchanged;  ///< 0: the leaders' exchange itself failed
  bool refused_here;        ///< it is this node that can't
  char text[4096];
};

/// What the leader has chosen for the segment being made.
struct segment_plan {
  std::uint32_t place;  ///< of its word among `control_page::word_of`
  memory_kind kind;
  bool recycled;        ///< its memory is one that every rank has mapped already
  descriptor offered;   ///< a new memfd
};

struct page_header {
  alignas(64) std::atomic<std::uint32_t> withdrawals;  ///< how often a rank left early: most often all need to read
  std::atomic<std::uint32_t> ended;                    ///< whether any rank has
  alignas(64) std::uint64_t token;
  verdict judged[2];  ///< in turn, as a rank may still read the last one
  segment_plan plan;
  std::atomic<std::uint64_t> idle_bytes;    ///< of memory that nobody holds, kept for the next segment
  std::atomic<std::uint64_t> most_idle;     ///< bound of these, when last looked
  std::atomic<std::int64_t> looked_at;      ///< when that was: nanoseconds of std::chrono::steady_clock
  std::atomic<std::uint32_t> retirements;   ///< how often the leader retired idle memory
};

/// Segments that a node can have alive at once; Linux allows a process 65,530 mappings anyway (vm.max_map_count).
inline constexpr std::uint32_t most_segments = 65536;

/// A process' own mapping of its node's control page.
struct control_page {
  mapping mapped;
  int ranks = 0;

  control_page(const mapping& memory, int rank_count)
      : mapped(memory),
        ranks(rank_count),
        arrivals_(reinterpret_cast<rank_arrivals*>(memory.address + arrivals_at())),
        lines_(reinterpret_cast<rank_line*>(memory.address + lines_at(rank_count)))
  {}
  ~control_page() { unmap(mapped); }
  control_page(const control_page&) = delete;
  control_page& operator=(const control_page&) = delete;

  static std::size_t bytes(int ranks)
  {
    return words_at(ranks) + most_segments * sizeof(std::atomic<std::uint64_t>);
  }
  /// Up to here the page is populated at once; the segments' words follow when they come into use.
  static std::size_t words_at(int ranks)
  {
    const std::size_t before = records_at(ranks) + static_cast<std::size_t>(ranks) * sizeof(rank_record);
    return (before + 4095) / 4096 * 4096;
  }

  page_header& header() const { return *reinterpret_cast<page_header*>(mapped.address); }
  rank_arrivals& arrivals(int rank) const { return arrivals_[rank]; }
  rank_line& line(int rank) const { return lines_[rank]; }
  rank_record& record(int rank) const
  {
    return reinterpret_cast<rank_record*>(mapped.address + records_at(ranks))[rank];
  }
  std::atomic<std::uint64_t>& word_of(std::uint32_t place) const
  {
    return reinterpret_cast<std::atomic<std::uint64_t>*>(mapped.address + words_at(ranks))[place];
  }

 private:
  static constexpr std::size_t in_lines(std::size_t bytes) { return (bytes + 63) / 64 * 64; }
  static constexpr std::size_t arrivals_at() { return in_lines(sizeof(page_header)); }
  static std::size_t lines_at(int ranks)
  {
    return arrivals_at() + in_lines(static_cast<std::size_t>(ranks) * sizeof(rank_arrivals));
  }
  static std::size_t records_at(int ranks)
  {
    return lines_at(ranks) + static_cast<std::size_t>(ranks) * sizeof(rank_line);
  }

  rank_arrivals* arrivals_;
  rank_line* lines_;
};

struct topology_state;

/// The kind of memory that this rank's node takes, where it has room for it.
memory_kind preferred_memory(const topology_state& where);

/// Collective over the communicator, in MPI's own way. The page of this rank's node, every record written; sets
/// `window_directory` to where this MPI keeps its windows, empty if none are to be had. Throws on every rank or on none.
std::shared_ptr<control_page> make_page(topology_state& where, std::string& window_directory);

}  // namespace nodeshare
