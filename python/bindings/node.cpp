// SPDX-License-Identifier: BSD-3-Clause
#include "bindings.hpp"

namespace nodeshare::python {
namespace {

place place_of(MPI_Fint handle, bool numa)
{
  const MPI_Comm comm = MPI_Comm_f2c(handle);
  const py::gil_scoped_release release;
  topology where(comm, numa ? per::numa : per::node);
  auto meets = node::of(where);
  return {std::move(where), std::move(meets)};
}

MPI_Fint to_fortran(MPI_Comm (topology::*get)() const, const topology& where)
{
  const py::gil_scoped_release release;
  return MPI_Comm_c2f((where.*get)());
}

}  // namespace

void bind_node(py::module_& module)
{
  using std::string;
  py::class_<place>(module, "Node", "The ranks of a communicator, and this rank's node among them.")
      .def(py::init(&place_of), py::arg("comm"), py::arg("numa") = false,
           "Collective over the communicator (a Fortran handle) on its first call, then local.")
      .def_property_readonly("rank", [](const place& self) { return self.where.rank(); })
      .def_property_readonly("size", [](const place& self) { return self.where.size(); })
      .def_property_readonly("node", [](const place& self) { return self.where.node(); })
      .def_property_readonly("nodes", [](const place& self) { return self.where.nodes(); })
      .def_property_readonly("node_rank", [](const place& self) { return self.where.node_rank(); })
      .def_property_readonly("node_size", [](const place& self) { return self.where.node_size(); })
      .def_property_readonly("host", [](const place& self) { return self.where.host(); })
      .def_property_readonly("lane", [](const place& self) { return self.where.lane(); })
      .def_property_readonly("lanes", [](const place& self) { return self.where.lanes(); })
      .def_property_readonly("agreements", [](const place& self) { return self.meets->agreements(); })
      .def_property_readonly("window_directory", [](const place& self) { return self.meets->window_directory(); })
      .def_property_readonly("token", [](const place& self) { return self.meets->token(); })
      .def("node_of", [](const place& self, int rank) { return self.where.node_of(rank); })
      .def("ranks_on",
           [](const place& self, int node) {
             const auto ranks = self.where.ranks_on(node);
             return std::vector<int>(ranks.begin(), ranks.end());
           })
      .def("local_range", [](const place& self, std::size_t count) { return self.where.local_range(count); })
      .def("node_comm", [](const place& self) { return to_fortran(&topology::node_comm, self.where); },
           "Collective over the node on its first call. A Fortran handle.")
      .def("lane_comm", [](const place& self) { return to_fortran(&topology::lane_comm, self.where); },
           "Collective over the lane on its first call. A Fortran handle.")
      .def(
          "agree",
          [](const place& self, const string& name, const string& arguments, bool more) {
            const py::gil_scoped_release release;
            self.meets->agree(call(name, arguments), more);
          },
          "Collective over the communicator. All return, or all raise.")
      .def(
          "fail",
          [](const place& self, const string& name, const string& arguments, const string& text, bool over_node) {
            const py::gil_scoped_release release;
            self.meets->fail(call(name, arguments), text, over_node);
          },
          "Collective over the communicator, or the node. Stands for the others' next agreement, by a rank that failed.")
      .def(
          "create",
          [](const place& self, const string& name, const string& arguments, std::size_t bytes, bool reserve, bool zeros,
             bool more) {
            const py::gil_scoped_release release;
            const content holds = zeros ? content::zeros : content::unspecified;
            return self.meets->create(call(name, arguments), {.bytes = bytes, .reserve = reserve, .holds = holds}, more);
          },
          "Collective over the communicator. Bytes on each node, zeros or whatever is there.")
      .def(
          "create_from",
          [](const place& self, const string& name, const string& arguments, std::size_t bytes, int source,
             const std::vector<std::tuple<std::size_t, std::size_t, std::uintptr_t>>& pieces, bool more) {
            const py::gil_scoped_release release;
            std::vector<source_piece> data;
            data.reserve(pieces.size());
            for (const auto& [offset, length, address] : pieces) {
              data.push_back({offset, length, reinterpret_cast<const std::byte*>(address)});
            }
            return self.meets->create(call(name, arguments),
                                      {.bytes = bytes,
                                       .holds = content::unspecified,
                                       .source = source,
                                       .data = data},
                                      more);
          },
          "Collective over the communicator. Bytes on each node; on that of rank `source` its pieces (offset, bytes, address).")
      .def(
          "trim",
          [](const place& self, const string& name, const string& arguments) {
            const py::gil_scoped_release release;
            self.meets->trim(call(name, arguments));
          },
          "Collective over the communicator. Gives idle memory back to the system.")
      .def(
          "exchange",
          [](const place& self, const string& name, const string& arguments, const py::bytes& content, int root) {
            string bytes = content;
            {
              const py::gil_scoped_release release;
              self.meets->exchange(call(name, arguments), bytes, root);
            }
            return py::bytes(bytes);
          },
          "Collective over the communicator, between agreements. Root's bytes.")
      .def(
          "gather",
          [](const place& self, const string& name, const string& arguments, std::int64_t number) {
            const py::gil_scoped_release release;
            return self.meets->gather(call(name, arguments), number);
          },
          "Collective over the communicator, between agreements. Every rank's number.");
  module.def("idle_bytes", &node::idle_bytes, "Local. Bytes kept mapped for the next segments.");
  module.def("end", &node::end, "Local. This rank takes part in nothing any more.");
}

}  // namespace nodeshare::python
