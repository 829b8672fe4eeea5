// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Reads how much memory the control groups of this process leave it (cgroups(7); the kernel's cgroup-v1/memory.rst and
/// cgroup-v2.rst): what goes over a group's limit is killed, no call fails before.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace nodeshare {

/// A group that counts the memory of this process.
struct memory_group {
  std::string folder;    ///< where it is mounted
  bool unified = false;  ///< of version 2
};

/// The groups of this process, from its own up to the root of what is mounted; of both versions where both are mounted.
/// @param root  the folder that /proc and the mount points lie in
std::vector<memory_group> memory_groups(const std::string& root = "/");

struct cgroup_headroom {
  std::uint64_t bytes = 0;  ///< limit - usage + the file cache, which is given back on demand; at most the limit
  std::uint64_t limit = 0;
  std::uint64_t usage = 0;
  std::string group;  ///< the folder of the group that decides
};

/// The least that any of `groups` leaves; nothing where none has a limit. A group that can't be read is passed over.
std::optional<cgroup_headroom> headroom(const std::vector<memory_group>& groups);

/// The same for this process, whose groups are looked up once.
std::optional<cgroup_headroom> headroom();

}  // namespace nodeshare
