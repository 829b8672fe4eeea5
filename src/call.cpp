// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// A collective call as its ranks compare it, and in words.
#include "meeting.hpp"
#include "wait.hpp"

namespace nodeshare {
namespace {

constexpr std::uint64_t fnv(std::string_view text, std::uint64_t hash = 0xcbf29ce484222325u) noexcept
{
  for (const char c : text) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
  }
  return hash;
}

}  // namespace

call::call(std::string_view its_name, std::string_view its_arguments, std::source_location its_place) noexcept
    : name(its_name), arguments(its_arguments), where(its_place), digest(fnv(its_arguments, fnv(its_name)))
{
}

call::call(std::string_view its_name, std::uint64_t number, std::string_view its_arguments,
           std::source_location its_place) noexcept
    : name(its_name),
      arguments(its_arguments),
      where(its_place),
      digest(fnv(its_name) ^ (number + 1) * 0x9e3779b97f4a7c15u)
{
}

std::string text_of(const call& what)
{
  return std::string(what.name) + '(' + std::string(what.arguments) + ") at " + where_text(what.where);
}

}  // namespace nodeshare
