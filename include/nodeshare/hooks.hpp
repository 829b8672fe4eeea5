// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// What a language binding adds to waiting.
#pragma once

#include <string>

namespace nodeshare {

/// Functions that the library calls while a rank waits; set once, before anything collective.
struct wait_hooks {
  /// Called every 50 ms of a wait: true ends it, and the call throws `interrupted` (Python: a signal handler raised).
  bool (*interrupted)() = nullptr;
  /// Where the user's code calls from, "script.py:7"; without it, or empty: the C++ source location counts.
  std::string (*where)() = nullptr;
  /// Called on every rank when memory has run out, before it is asked for once more.
  void (*collect_garbage)() = nullptr;
};
extern wait_hooks hooks;

}  // namespace nodeshare
