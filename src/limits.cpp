// SPDX-License-Identifier: BSD-3-Clause
#include "limits.hpp"

#include <algorithm>
#include <cstdint>
#include <optional>
#include <utility>

#include "cgroup.hpp"
#include "linux.hpp"
#include "provider.hpp"

namespace nodeshare {
namespace {

constexpr std::size_t worth_asking_memory = std::size_t{1} << 20;
/// Others take memory between a look and the pages, and groups count it in batches, one a processor.
constexpr std::size_t left_to_others = std::size_t{16} << 20;

/// Each rank that maps bytes pays their page tables too.
std::size_t with_page_tables(std::size_t bytes, int ranks) { return bytes + bytes / 512 * static_cast<std::size_t>(ranks); }

/// Leaves in this rank's record what its control groups leave it. Whatever goes over a group's limit is killed, so it is
/// the only limit that no call answers.
void look_at_group(rank_record& mine, std::size_t bytes)
{
  const auto group = bytes >= worth_asking_memory ? headroom() : std::nullopt;
  mine.group = group ? std::hash<std::string>{}(group->group) | 1 : 0;
  mine.group_leaves = group ? group->bytes : 0;
  copy_text(mine.group_text, !group ? ""
                                    : bytes_text(group->bytes) + " of " + bytes_text(group->limit) +
                                          " are left in the control group " + group->group);
}

constexpr const char* group_remedy = ": ask for more memory (Slurm: --mem, a container: --memory), use more nodes, or make "
                                     "the array smaller";
constexpr const char* available_remedy = " of memory are available there: make the array smaller, use more nodes or nodes "
                                         "with more memory, or see what else runs there";

failure look_at_group_now(std::size_t needed)
{
  const auto group = headroom();
  return group && group->bytes < needed
             ? out_of_memory(bytes_text(group->bytes) + " are left in the control group " + group->group + group_remedy)
             : failure{};
}

}  // namespace

failure out_of_memory(std::string text) { return {failure_kind::out_of_shared_memory, std::move(text)}; }

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
    // what else of this communicator is on this machine makes its copy at the same time
    const auto needed = static_cast<std::size_t>(where.nodes_on_host) * with_page_tables(bytes, where.node_size());
    if (const auto available = linux_api::memory_available(); available && *available < needed) {
      return out_of_memory(bytes_text(*available) + available_remedy);
    }
  }
  const memory_kind preferred = preferred_memory(where);
  const bool window_allowed = preferred != memory_kind::memfd;
  const bool memfd_allowed =
      !window_allowed || (where.chosen.memory == memory_setting::automatic && where.one_user_namespace);
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

failure look_at_groups(const topology_state& where, const control_page& page, std::size_t bytes)
{
  const auto nodes = static_cast<std::size_t>(where.nodes_on_host);
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
    if (one.group_leaves < nodes * (bytes / ranks * members + bytes / 512 * members)) {
      return out_of_memory(one.group_text + std::string(group_remedy));
    }
  }
  return {};
}

look_ahead look_ahead_of(int ranks)
{
  return [ranks, unseen = std::size_t{0}](std::size_t bytes) mutable -> failure {
    unseen += bytes;
    if (unseen < step_bytes) {
      return {};
    }
    unseen = 0;
    return look_at_group_now(with_page_tables(step_bytes, 1) * static_cast<std::size_t>(ranks));
  };
}

failure look_now(std::size_t bytes)
{
  const std::size_t needed = with_page_tables(bytes, 1) + left_to_others;
  if (const auto available = linux_api::memory_available(); available && *available < needed) {
    return out_of_memory(bytes_text(*available) + available_remedy);
  }
  return look_at_group_now(needed);
}

failure populate(std::span<std::byte> pages, const look_ahead& look)
{
  for (std::size_t done = 0; done < pages.size(); done += step_bytes) {
    const std::size_t step = std::min(step_bytes, pages.size() - done);
    failure trouble = look(step);
    if (!trouble) {
      trouble = linux_api::populate(pages.data() + done, step);
    }
    if (trouble) {
      return trouble;
    }
  }
  return {};
}

}  // namespace nodeshare
