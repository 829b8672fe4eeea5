// SPDX-License-Identifier: BSD-3-Clause
// What the library itself looks at before it takes memory, for people to see.
#include "bindings.hpp"
#include "cgroup.hpp"
#include "linux.hpp"
#include "provider.hpp"

namespace nodeshare::python {

void bind_limits(py::module_& module)
{
  module.def(
      "cgroup_headroom",
      []() -> py::object {
        const auto found = headroom();
        if (!found) {
          return py::none();
        }
        return py::dict(py::arg("headroom") = found->bytes, py::arg("limit") = found->limit,
                        py::arg("usage") = found->usage, py::arg("group") = found->group);
      },
      "Local. What control groups leave this process, and the group that decides; None where none has a limit.");
  module.def("memory_available", &linux_api::memory_available, "Local. MemAvailable in bytes, or None.");
  module.def(
      "window_trouble",
      [](std::size_t bytes, const std::string& directory) { return window_provider.look(bytes, directory).text; },
      "Local. What keeps this rank from a window of so many bytes in the folder of this MPI's windows; empty if nothing.");
  module.def("bytes_text", &bytes_text, "Local. Bytes as people read them: \"1.5 GiB\".");
}

}  // namespace nodeshare::python
