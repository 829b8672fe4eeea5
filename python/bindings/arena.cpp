// SPDX-License-Identifier: BSD-3-Clause
#include "bindings.hpp"

namespace nodeshare::python {

void bind_arena(py::module_& module)
{
  py::class_<arena>(module, "Arena", "One piece of memory, from which arrays are taken one behind the other.")
      .def(py::init([](const place& where, const std::string& name, const std::string& arguments, std::size_t bytes,
                       bool reserve) {
             const py::gil_scoped_release release;
             return arena(call(name, arguments), where.meets, bytes, reserve);
           }),
           "Collective over the communicator.")
      .def(
          "take",
          [](arena& self, std::size_t bytes, const std::string& what) {
            return static_cast<std::size_t>(self.take(bytes, what) - self.memory()->data());
          },
          "Local, in the same order on every rank. Where the next bytes begin.")
      .def(
          "sync",
          [](const arena& self) {
            const py::gil_scoped_release release;
            self.sync();
          },
          "Collective over the node. Every write before it is seen by all after it.")
      .def_property_readonly("memory", [](const arena& self) { return self.memory(); })
      .def_property_readonly("used", &arena::used_bytes)
      .def_property_readonly("free", &arena::free_bytes)
      .def_property_readonly("count", &arena::count);
}

}  // namespace nodeshare::python
