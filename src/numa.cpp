// SPDX-License-Identifier: BSD-3-Clause
#include "numa.hpp"

#include <algorithm>
#include <filesystem>
#include <fstream>

namespace nodeshare {
namespace {

/// Processors as the kernel lists them: "0-3,8,10-11".
cpu_set_t read_list(std::istream& list)
{
  cpu_set_t out;
  CPU_ZERO(&out);
  for (int first = 0; list >> first;) {
    int last = first;
    if (list.peek() == '-') {
      list.get();
      list >> last;
    }
    for (int one = std::max(first, 0); one <= std::min(last, CPU_SETSIZE - 1); ++one) {
      CPU_SET(static_cast<std::size_t>(one), &out);
    }
    list.get();  // the comma
  }
  return out;
}

}  // namespace

std::string numa_root = "/";  // NOLINT(bugprone-throwing-static-initialization): it takes no memory

std::map<int, cpu_set_t> numa_domains(const std::string& root)
{
  std::map<int, cpu_set_t> out;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::directory_iterator(root + "/sys/devices/system/node", ignored)) {
    const std::string name = entry.path().filename();
    if (name.rfind("node", 0) != 0 || name.find_first_not_of("0123456789", 4) != std::string::npos) {
      continue;
    }
    std::ifstream file(entry.path() / "cpulist");
    const cpu_set_t processors = read_list(file);
    if (CPU_COUNT(&processors) > 0) {  // others are memory alone
      out[std::stoi(std::string("0").append(name, 4))] = processors;
    }
  }
  return out;
}

failure find_domain(const cpu_set_t& processors, const std::map<int, cpu_set_t>& domains, int& out)
{
  out = 0;
  if (domains.size() <= 1) {
    return {};
  }
  std::string found;
  int count = 0;
  for (const auto& [number, near] : domains) {
    cpu_set_t both;
    CPU_AND(&both, &processors, &near);
    if (CPU_COUNT(&both) > 0) {
      out = number;
      found += (++count > 1 ? ", " : "") + std::to_string(number);
    }
  }
  if (count == 1) {
    return {};
  }
  return {failure_kind::invalid_argument,
          count == 0 ? "none of the NUMA domains in /sys/devices/system/node has a processor that it may run on"
                     : "it may run in NUMA domains " + found +
                           ", so none is its own: bind your ranks (mpirun --bind-to core, srun --cpu-bind=cores)"};
}

}  // namespace nodeshare
