// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// How the ranks of a node meet, and how they come to memory together.
#pragma once

#include <mpi.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <source_location>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "nodeshare/segment.hpp"
#include "nodeshare/topology.hpp"

namespace nodeshare {

class meeting_place;
class recycler;
struct failure;
struct segment_plan;

/// What new memory is to hold.
enum class content { zeros, unspecified };

/// Bytes that a rank has, and where new memory is to hold them.
struct source_piece {
  std::size_t offset = 0;
  std::size_t bytes = 0;
  const std::byte* data = nullptr;
};

/// Memory that is asked for, the same on every rank but for `data`.
struct memory_request {
  std::size_t bytes = 0;
  bool reserve = true;  ///< makes every page present now, by all ranks in parallel; without it a full system is a SIGBUS
  content holds = content::zeros;
  int source = -1;                  ///< rank whose `data` its node's memory is to hold, instead of `holds`; -1: none
  /// On that rank: in ascending order, with less than a page between them, which is unspecified then.
  std::span<const source_piece> data = {};  // NOLINT(readability-redundant-member-init): GCC's -Wextra wants it
};

/// A collective call as its ranks compare it: everything that must be the same on all of them is in the digest.
struct call {
  std::string_view name;
  std::string_view arguments;  ///< in words, for messages
  std::source_location where;
  std::uint64_t digest;
  double timeout = -1;         ///< seconds of waiting after which this rank leaves a meeting over the node; negative: never

  constexpr call(std::string_view its_name, std::string_view its_arguments,
                 std::source_location its_place = std::source_location::current()) noexcept
      : name(its_name), arguments(its_arguments), where(its_place), digest(hash_of(its_arguments, hash_of(its_name)))
  {}
  /// A call whose arguments are compared as one number; `arguments` serves messages only.
  constexpr call(std::string_view its_name, std::uint64_t number, std::string_view its_arguments,
                 std::source_location its_place = std::source_location::current()) noexcept
      : name(its_name),
        arguments(its_arguments),
        where(its_place),
        digest(hash_of(its_name) ^ (number + 1) * 0x9e3779b97f4a7c15u)
  {}

 private:
  /// 64-bit FNV-1a, continued from `hash`. Here, so that that of a literal is made when compiling.
  static constexpr std::uint64_t hash_of(std::string_view text, std::uint64_t hash = 0xcbf29ce484222325u) noexcept
  {
    for (const char c : text) {
      hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    }
    return hash;
  }
};

/// The ranks of this node, their control page, and the one way to meet.
///
/// A *meeting* is a barrier, a memory synchronisation and an agreement in one: ranks leave the hash of what they call in
/// a slot of the page, wait for each other, and compare. A call over the communicator meets on each node, exchanges a
/// few words between the nodes' leaders, and meets again. Text travels only after a "no".
class node : public std::enable_shared_from_this<node> {
 public:
  /// Collective over the communicator on the first call for a topology (makes the control page), then local.
  /// Throws `out_of_shared_memory`, `error`.
  static std::shared_ptr<node> of(const topology& where);

  explicit node(std::shared_ptr<topology_state> where);
  ~node();
  node(const node&) = delete;
  node& operator=(const node&) = delete;

  /// Collective over the node. Every write before it is seen by all after it.
  /// Throws `mismatch` when ranks call different things, `peer_error` when one has ended.
  void meet(const call& what);

  /// Collective over the communicator. Meets on all nodes. Throws like `meet`; `peer_error` when a rank called `fail`.
  /// @param more  another agreement of the same call follows: a signal that comes now is kept for it
  void agree(const call& what, bool more = false);

  /// Collective over the communicator (or the node), by a rank whose own part failed: it stands for the `agree` (`meet`)
  /// that the others come to next, and they throw `peer_error` with `text`. This rank throws nothing, unless its wait is
  /// interrupted.
  void fail(const call& what, std::string_view text, bool over_node = false);

  /// Collective over the communicator. Memory on each node: what an earlier segment has left, or new.
  ///
  /// Throws `out_of_shared_memory`: then idle memory and garbage have given way, everything is given back, and the job
  /// stays usable.
  std::shared_ptr<segment> create(const call& what, const memory_request& wanted, bool more = false);

  /// Collective over the communicator. Gives memory that lies idle for the next segment back to the system.
  void trim(const call& what);

  /// Local. Bytes that this process keeps mapped for the next segments, of all communicators.
  [[nodiscard]] static std::size_t idle_bytes() noexcept;

  /// Collective over the communicator. `root`'s bytes for everybody, in private memory. `root` has been agreed on.
  void exchange(const call& what, std::string& bytes, int root);

  /// Collective over the communicator, between agreements. Every rank's number, in rank order.
  std::vector<std::int64_t> gather(const call& what, std::int64_t number);

  /// Local. Tells all others that this rank takes part in nothing any more: it leaves word on every node object of this
  /// process, and for ranks that wait in a first call. `failed`: not as it was to. MPI must have been initialised.
  static void end(std::string_view how, bool failed) noexcept;

  /// Local. The topology's state, and the meetings, for the layers above.
  [[nodiscard]] const topology_state& where() const noexcept { return *where_; }
  [[nodiscard]] meeting_place& meetings() noexcept { return *meetings_; }
  /// Local. How many agreements over the communicator this rank has come to; after a mismatch that was caught, ranks may
  /// have come to different ones.
  [[nodiscard]] std::uint64_t agreements() const noexcept;
  /// Local. Where this MPI keeps its shared windows; empty where none was made or they are no files.
  [[nodiscard]] const std::string& window_directory() const noexcept { return window_directory_; }
  /// Local. Names this node among all of the machine.
  [[nodiscard]] std::uint64_t token() const noexcept;

 private:
  std::shared_ptr<segment> try_to_create(const call& what, const memory_request& wanted, bool more);
  failure make_plan(const memory_request& wanted, segment_plan& plan);
  void drop_plan(const segment_plan& plan);
  failure take_memory(const segment_plan& chosen, const memory_request& wanted, segment_parts& parts);
  void give_way(const call& what);
  static void drop_all_idle() noexcept;
  void free_dropped(const call& what, bool more);
  void free_unused_windows() noexcept;

  std::shared_ptr<topology_state> where_;
  std::unique_ptr<recycler> recycler_;
  std::unique_ptr<meeting_place> meetings_;
  std::uint64_t segments_ = 0;     // made over the communicator
  std::uint64_t next_place_ = 0;   // node rank 0 alone
  bool core_each_ = false;         // whether each rank of the machine can have a core of its own
  std::string window_directory_;   // where this MPI keeps windows; empty: none are to be had
};

}  // namespace nodeshare
