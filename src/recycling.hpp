// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Memory that nobody holds any more, kept for the node's next segment: its pages need not be faulted in again.
///
/// Letting go is local, so each rank keeps its own mapping, and the segment's word in the control page counts who still
/// holds it. When nobody does, the last holder decides whether the memory is worth keeping; between two meetings of a
/// creation the leader may then choose it, and every rank finds its mapping here.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "control_page.hpp"
#include "provider.hpp"

namespace nodeshare {

class recycler final : public keeper {
 public:
  /// `window_directory`: where this MPI keeps windows, whose free space counts too.
  recycler(std::shared_ptr<control_page> page, std::string window_directory);
  ~recycler() override;
  recycler(const recycler&) = delete;
  recycler& operator=(const recycler&) = delete;

  /// Local. Keeps the mapping, or unmaps it. The last holder gives pages beyond the bound back to the system.
  void let_go(segment_parts& parts) noexcept override;

  /// By the leader, while the others wait for it. Chooses idle memory for `bytes` and counts all ranks as its holders.
  bool choose(std::size_t bytes, segment_plan& out);

  /// By the leader: takes the choice back, as another node has no memory.
  void give_up(const segment_plan& chosen) noexcept;

  /// Local. This rank's mapping of chosen memory.
  mapping take(std::uint32_t place);

  /// Local. Unmaps what the leader or a fork has retired.
  void drop_retired() noexcept;
  /// Local. Unmaps all that nobody holds. `by_all`: all ranks of the node do so now, and it is free then; else its
  /// pages are given back at once.
  void drop_idle(bool by_all = false) noexcept;

  /// By the leader, while the others wait for it. Says which held windows all ranks have let go of for good.
  void choose_windows_to_free() noexcept;
  /// Collective over the node. Frees these.
  void free_windows() noexcept;
  /// Collective over the node, on which nobody holds anything any more. Frees all held windows.
  void free_all_windows() noexcept;

  /// Local. Bytes that this rank keeps mapped and nobody holds.
  [[nodiscard]] std::size_t idle_bytes() const noexcept;

 private:
  struct spare {
    mapping mapped;
    memory_kind kind;
  };
  using spares = std::map<std::uint32_t, spare>;

  bool worth_keeping(const segment_parts& parts) const noexcept;
  bool retire(std::uint32_t place, const spare& one, bool kept_by_ranks = true) noexcept;
  spares::iterator drop(spares::iterator one) noexcept;
  void free_these(spares&& windows) noexcept;
  void forget_mapping(std::uint32_t place, std::uint64_t what) noexcept;

  std::shared_ptr<control_page> page_;
  const std::string window_directory_;
  mutable std::mutex mutex_;
  spares spares_;                        // by the place of the segment's word
  std::uint32_t retirements_known_ = 0;
};

}  // namespace nodeshare
