// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Reads the NODESHARE_… environment variables.
#pragma once

#include "failure.hpp"
#include "topology_state.hpp"

namespace nodeshare {

/// Reads the environment of this process; `why` says what is wrong with it, if anything.
settings read_settings(failure& why);

/// Whether a launcher says that this process is one of several; 0 if none does. `name` is set to what says so.
int ranks_by_launcher(std::string& name);

}  // namespace nodeshare
