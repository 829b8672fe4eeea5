// SPDX-License-Identifier: BSD-3-Clause
#include "cgroup.hpp"

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>

namespace nodeshare {
namespace {

using std::filesystem::path;

constexpr std::uint64_t unlimited = std::uint64_t{1} << 62;  // version 1 writes 2^63 less a page

std::vector<std::string> split(const std::string& text, char separator)
{
  std::vector<std::string> parts;
  std::istringstream rest(text);
  for (std::string part; std::getline(rest, part, separator);) {
    parts.push_back(part);
  }
  return parts;
}

bool has_word(const std::string& list, const char* word)
{
  const auto words = split(list, ',');
  return std::find(words.begin(), words.end(), word) != words.end();
}

/// A path as proc(5) writes it in mountinfo, with blanks and the like as \040.
path unescaped(const std::string& text)
{
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    unsigned char code = 0;
    if (text[i] == '\\' && i + 4 <= text.size() &&
        std::from_chars(&text[i + 1], &text[i + 1] + 3, code, 8).ptr == &text[i + 1] + 3) {
      out += static_cast<char>(code);
      i += 3;
    } else {
      out += text[i];
    }
  }
  return out;
}

/// The folders of the groups from `own` up to `top`, the group that is mounted at `mount_point`. Both are paths as this
/// process' cgroup namespace has them, where ".." leads out of it.
std::vector<std::string> folders(const path& own, const path& top, path mount_point)
{
  const auto leads_out = [](const path& name) { return name == ".."; };
  auto [rest, above] = std::mismatch(own.begin(), own.end(), top.begin(), top.end());
  if (!std::all_of(above, top.end(), leads_out) || (above == top.end() && rest != own.end() && leads_out(*rest))) {
    return {};  // the mount has the groups of other processes
  }
  std::vector<std::string> found{mount_point};
  if (above != top.end()) {
    return found;  // it begins above the namespace, which hides the names on the way down
  }
  for (; rest != own.end(); ++rest) {
    found.push_back(mount_point /= *rest);
  }
  std::reverse(found.begin(), found.end());
  return found;
}

std::optional<std::uint64_t> number(const std::string& text)
{
  std::uint64_t value = 0;
  const char* end = text.data() + text.size();
  const auto [stop, why] = std::from_chars(text.data(), end, value);
  return why == std::errc() && stop == end ? std::optional(value) : std::nullopt;
}

std::optional<std::uint64_t> number_in(const std::string& file)
{
  std::string line;
  std::ifstream input(file);
  std::getline(input, line);
  return number(line);
}

/// Bytes of file cache, which the kernel gives back before it kills. Not `file` or `cache`: those count shared memory.
std::optional<std::uint64_t> file_cache(const memory_group& group)
{
  const std::string prefix = group.unified ? "" : "total_";  // version 1 counts the groups below apart
  std::ifstream statistics(group.folder + "/memory.stat");
  std::optional<std::uint64_t> active;
  std::optional<std::uint64_t> inactive;
  for (std::string name, value; !(active && inactive) && statistics >> name >> value;) {
    if (name == prefix + "active_file") {
      active = number(value);
    } else if (name == prefix + "inactive_file") {
      inactive = number(value);
    }
  }
  return active && inactive ? std::optional(*active + *inactive) : std::nullopt;
}

std::optional<cgroup_headroom> headroom_of(const memory_group& group)
{
  const auto limit = number_in(group.folder + (group.unified ? "/memory.max" : "/memory.limit_in_bytes"));
  if (!limit || *limit >= unlimited) {  // version 2 writes "max"
    return std::nullopt;
  }
  const auto usage = number_in(group.folder + (group.unified ? "/memory.current" : "/memory.usage_in_bytes"));
  const auto cache = file_cache(group);
  if (!usage || !cache) {
    return std::nullopt;
  }
  const std::uint64_t bound = *usage > *cache ? *usage - *cache : 0;
  return cgroup_headroom{*limit > bound ? *limit - bound : 0, *limit, *usage, group.folder};
}

}  // namespace

std::vector<memory_group> memory_groups(const std::string& root)
{
  std::optional<path> own[2];  // by version; "4:memory:/job" and "0::/job"
  std::ifstream membership(root + "/proc/self/cgroup");
  for (std::string line; std::getline(membership, line);) {
    const std::size_t first = line.find(':');
    const std::size_t second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) {
      continue;
    }
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool unified = controllers.empty();
    if (unified || has_word(controllers, "memory")) {
      own[unified] = line.substr(second + 1);
    }
  }
  std::vector<memory_group> groups;
  std::ifstream mounts(root + "/proc/self/mountinfo");
  for (std::string line; std::getline(mounts, line);) {
    // 35 31 0:32 /top /mount/point rw,relatime … - cgroup cgroup rw,memory
    const auto words = split(line, ' ');
    const auto dash = std::find(words.begin(), words.end(), "-");
    if (words.end() - dash < 4 || dash - words.begin() < 6) {
      continue;
    }
    const bool unified = dash[1] == "cgroup2";
    if (own[unified] && (unified || (dash[1] == "cgroup" && has_word(dash[3], "memory")))) {
      for (auto& folder : folders(*own[unified], unescaped(words[3]), root / unescaped(words[4]).relative_path())) {
        groups.push_back({std::move(folder), unified});
      }
    }
  }
  return groups;
}

std::optional<cgroup_headroom> headroom(const std::vector<memory_group>& groups)
{
  std::optional<cgroup_headroom> least;
  for (const memory_group& group : groups) {
    if (auto found = headroom_of(group); found && (!least || found->bytes < least->bytes)) {
      least = std::move(found);
    }
  }
  return least;
}

std::optional<cgroup_headroom> headroom()
{
  static const auto* groups = new std::vector<memory_group>(memory_groups());  // no end: exit order is not ours
  return headroom(*groups);
}

}  // namespace nodeshare
