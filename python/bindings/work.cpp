// SPDX-License-Identifier: BSD-3-Clause
#include "bindings.hpp"

namespace nodeshare::python {

void bind_work(py::module_& module)
{
  py::class_<work>(module, "Work", "Deals indices, each to exactly one rank.")
      .def(py::init([](const place& where, const std::string& name, const std::string& arguments, std::size_t count,
                       std::size_t chunk, bool dynamic, bool more) {
             const py::gil_scoped_release release;
             return work(call(name, arguments), where.meets, count, chunk,
                         dynamic ? schedule::dynamic : schedule::fixed, more);
           }),
           "Collective over the communicator.")
      .def("next", &work::next, "Local. The next indices (first, last) for this rank, or None.")
      .def("leave", &work::leave, "Local. This rank leaves, having done all before an index.")
      .def("stop", &work::stop, "Local. Leaves word for the node's ranks that the rest is in vain.")
      .def_property_readonly("stopped", &work::stopped)
      .def_property_readonly("count", &work::count)
      .def(
          "owners",
          [](const work& self) {
            std::vector<std::tuple<std::size_t, std::size_t, int>> out;
            for (const row_block& one : self.owners()) {
              out.emplace_back(one.first, one.last, one.node);
            }
            return out;
          },
          "Local. The blocks (first, last, node) of all nodes.")
      .def_property_readonly("node_range", &work::node_range)
      .def_property_readonly("done_on_node", &work::done_on_node);
}

}  // namespace nodeshare::python
