// SPDX-License-Identifier: BSD-3-Clause
#include "settings.hpp"

#include <cstdlib>
#include <iterator>
#include <sstream>

namespace nodeshare {
namespace {

std::string variable(const char* name)
{
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

failure bad(const char* name, const std::string& value, const char* allowed)
{
  return {failure_kind::invalid_argument,
          std::string(name) + "=" + value + " in the environment of rank 0: allowed is " + allowed};
}

bool read_placement(std::string text, settings& out)
{
  if (const auto colon = text.find(':'); colon != std::string::npos) {
    if (text.substr(colon) != ":cyclic") {
      return false;
    }
    out.cyclic = 1;
    text.resize(colon);
  }
  if (text.empty() || text.back() == ',') {
    return false;
  }
  std::istringstream parts(text);
  for (std::string part; std::getline(parts, part, ',');) {
    char* end = nullptr;
    const long ranks = std::strtol(part.c_str(), &end, 10);
    if (part.empty() || *end != '\0' || ranks < 1 || ranks > 1 << 20 ||
        out.placement_count == static_cast<int>(std::size(out.placement))) {
      return false;
    }
    out.placement[out.placement_count++] = static_cast<int>(ranks);
  }
  return out.placement_count > 0;
}

}  // namespace

settings read_settings(failure& why)
{
  settings out;
  if (const std::string memory = variable("NODESHARE_MEMORY"); memory == "window") {
    out.memory = memory_setting::window;
  } else if (memory == "memfd") {
    out.memory = memory_setting::memfd;
  } else if (memory == "held-window") {
    out.memory = memory_setting::held_window;
  } else if (!memory.empty() && memory != "auto") {
    why = bad("NODESHARE_MEMORY", memory, "auto, window, memfd or held-window");
  }
  if (const std::string patience = variable("NODESHARE_PATIENCE"); !patience.empty()) {
    char* end = nullptr;
    out.patience = std::strtod(patience.c_str(), &end);
    if (*end != '\0' || !(out.patience > 0)) {
      why = bad("NODESHARE_PATIENCE", patience, "a number of seconds above 0");
    }
  }
  if (const std::string placement = variable("NODESHARE_RANKS_PER_NODE");
      !placement.empty() && !read_placement(placement, out)) {
    why = bad("NODESHARE_RANKS_PER_NODE", placement, "ranks per node as in 2 or 3,1 or 2:cyclic");
  }
  return out;
}

int ranks_by_launcher(std::string& name)
{
  // SLURM_NTASKS is set for plain processes of a batch script too; a step has an id
  const bool in_step = !variable("SLURM_STEP_ID").empty() && variable("SLURM_STEP_ID") != "4294967291";
  for (const char* candidate : {"OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}) {
    const std::string value = variable(candidate);
    if (!value.empty() && (in_step || std::string(candidate) != "SLURM_STEP_NUM_TASKS")) {
      name = candidate;
      return std::atoi(value.c_str());
    }
  }
  return 0;
}

}  // namespace nodeshare
