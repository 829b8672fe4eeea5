// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// A collective call in words.
#include "meeting.hpp"
#include "wait.hpp"

namespace nodeshare {
std::string text_of(const call& what)
{
  return std::string(what.name) + '(' + std::string(what.arguments) + ") at " + where_text(what.where);
}

}  // namespace nodeshare
