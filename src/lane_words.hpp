// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// What ranks tell the other nodes when they end: on their lane, where perhaps nobody listens.
#pragma once

#include <string>
#include <string_view>

#include "topology_state.hpp"

namespace nodeshare {

/// The values are MPI tags.
enum class word : int {
  ended = 1,   ///< a rank takes part in nothing any more; what it sent before counts
  gave_up = 2  ///< a rank left in the middle of an exchange; what it sent before does not count
};

/// Words go to the neighbours of a hypercube of nodes: each rank that waits and finds one passes it on.
class lane_words {
 public:
  explicit lane_words(const topology_state& where) : where_(where) {}

  /// Local. Most often nobody waits and nobody receives it; sent eagerly, it costs nothing then.
  void tell(word which, std::string_view how) const noexcept;

  /// Local. Whether there is such a word: then it stands in `out` and has been passed on. Throws `mpi_error`.
  bool hear(word which, std::string& out);

  /// Local. After `tell(word::ended)`: takes in what neighbours said when they ended; true when all of them have. Some MPIs
  /// complain of messages that nobody received.
  bool hear_last() noexcept;

 private:
  bool receive(word which, std::string& out);
  bool can_speak() const noexcept;

  const topology_state& where_;
  int received_ = 0;
};

}  // namespace nodeshare
