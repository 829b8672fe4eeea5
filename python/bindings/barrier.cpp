// SPDX-License-Identifier: BSD-3-Clause
#include "bindings.hpp"

namespace nodeshare::python {

void bind_barrier(py::module_& module)
{
  py::class_<barrier>(module, "Barrier", "Where the ranks of a node wait for each other.")
      .def(py::init([](const place& where, const std::string& name, const std::string& arguments) {
             const py::gil_scoped_release release;
             return barrier(call(name, arguments), where.meets);
           }),
           "Collective over the communicator.")
      .def(
          "wait",
          [](const barrier& self, double seconds) {
            const py::gil_scoped_release release;
            if (seconds < 0) {
              self.wait();
            } else {
              self.wait_for(std::chrono::duration<double>(seconds));
            }
          },
          "Collective over the node. Waits for all; -1: for ever.")
      .def_property_readonly("description", &barrier::description);
}

}  // namespace nodeshare::python
