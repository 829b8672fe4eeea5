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
  /// Called by a thread before it waits for longer than about two microseconds; what it gives is passed to `take_back`
  /// when the wait is over, unless it is null. A thread that waits must hold nothing that others need to get on
  /// (Python: the GIL, which the one who holds what this thread waits for may need for `interrupted`).
  void* (*let_go)() = nullptr;
  void (*take_back)(void*) = nullptr;
  /// Where the user's code calls from, "script.py:7"; without it, or empty: the C++ source location counts.
  std::string (*where)() = nullptr;
  /// Called on every rank when memory has run out, before it is asked for once more.
  void (*collect_garbage)() = nullptr;
};
extern wait_hooks hooks;

}  // namespace nodeshare
