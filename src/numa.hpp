// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Which processors lie near which memory (numa(7); the kernel's stable/sysfs-devices-node).
#pragma once

#include <sched.h>

#include <map>
#include <string>

#include "failure.hpp"

namespace nodeshare {

/// The folder that /sys lies in: "/", unless a test has recorded another machine's.
extern std::string numa_root;

/// The processors of each NUMA domain that has some, by its number; empty where the kernel tells of none.
std::map<int, cpu_set_t> numa_domains(const std::string& root = numa_root);

/// The domain in which a process with these processors runs, into `out`; 0 where there is one at most. A failure where
/// it may run in several.
failure find_domain(const cpu_set_t& processors, const std::map<int, cpu_set_t>& domains, int& out);

}  // namespace nodeshare
