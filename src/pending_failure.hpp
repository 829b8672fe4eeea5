// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// What goes wrong on a rank between two agreements.
#pragma once

#include <exception>

#include "failure.hpp"
#include "meeting.hpp"

namespace nodeshare {

/// What a step of this rank threw: the next agreement tells all others, and this rank throws it again there.
class pending_failure {
 public:
  /// Local, or collective among some. Runs a step, unless one has failed.
  template <class Step>
  void run(Step step)
  {
    if (thrown_) {
      return;
    }
    try {
      step();
    } catch (const std::exception& why) {
      failure_ = {failure_kind::other, why.what()};
      thrown_ = std::current_exception();
    }
  }

  /// Local. Throws what a step threw.
  void rethrow() const
  {
    if (thrown_) {
      std::rethrow_exception(thrown_);
    }
  }

  /// Collective over the communicator.
  void agree(meeting_place& meetings, const call& what, bool more) const
  {
    try {
      meetings.agree(what, failure_, scope::communicator, more);
    } catch (...) {
      rethrow();
      throw;
    }
  }

 private:
  failure failure_;
  std::exception_ptr thrown_;
};

}  // namespace nodeshare
