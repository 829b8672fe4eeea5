// SPDX-License-Identifier: BSD-3-Clause
#include "bindings.hpp"
#include "copying.hpp"

namespace nodeshare::python {
namespace {

/// The one function that makes an ndarray, `offset` bytes into the segment: any dtype, shape and strides, 0-d and empty
/// too. Its base is the segment, so it keeps the memory; made read-only, it stays so.
py::array make_array(const std::shared_ptr<segment>& self, const py::dtype& dtype, const std::vector<py::ssize_t>& shape,
                     const std::vector<py::ssize_t>& strides, bool writable, std::size_t offset)
{
  py::array out(dtype, shape, strides, self->data() + offset, py::cast(self));
  if (!writable) {
    py::detail::array_proxy(out.ptr())->flags &= ~py::detail::npy_api::NPY_ARRAY_WRITEABLE_;
  }
  return out;
}

/// Of the whole array, or of the one that begins at `offset` in an arena.
void sync(const segment& self, std::size_t offset)
{
  if (!self.home()) {
    throw error("this array was attached from another process: it has no ranks to synchronise with");
  }
  const py::gil_scoped_release release;
  self.home()->meet(call("sync", self.id() ^ (offset << 24), self.description()));
}

/// Bytes of this process, at an address, to a place of the segment.
void write(const segment& self, std::size_t offset, std::uintptr_t from, std::size_t bytes)
{
  if (offset > self.size_bytes() || bytes > self.size_bytes() - offset) {
    throw error("bytes beyond the end of a segment");
  }
  const py::gil_scoped_release release;
  copy_bytes(self.data() + offset, reinterpret_cast<const std::byte*>(from), bytes);
}

/// Runs come as rows of (offset, bytes, node, stride, count).
using run_table = py::array_t<std::int64_t, py::array::c_style | py::array::forcecast>;

std::vector<byte_run> runs_of(const run_table& table)
{
  const auto rows = table.unchecked<2>();
  std::vector<byte_run> out(static_cast<std::size_t>(rows.shape(0)));
  for (py::ssize_t i = 0; i < rows.shape(0); ++i) {
    const auto number = [&](py::ssize_t column) { return static_cast<std::size_t>(rows(i, column)); };
    out[static_cast<std::size_t>(i)] = {number(0), number(1), static_cast<int>(rows(i, 2)), number(3), number(4)};
  }
  return out;
}

descriptor descriptor_of(const py::tuple& from)
{
  return {from[0].cast<std::int32_t>(),  from[1].cast<std::int32_t>(),  from[2].cast<std::uint64_t>(),
          from[3].cast<std::uint64_t>(), from[4].cast<std::uint64_t>(), from[5].cast<std::uint64_t>()};
}

}  // namespace

void bind_segment(py::module_& module)
{
  py::class_<segment, std::shared_ptr<segment>>(module, "Segment", py::dynamic_attr(),
                                                "Bytes that the ranks of a node share. `layout` is set by the package.")
      .def("ndarray", &make_array, py::arg("dtype"), py::arg("shape"), py::arg("strides"), py::arg("writable"),
           py::arg("offset") = 0, "Local. An ndarray over the segment.")
      .def(
          "sync", [](const segment& self) { sync(self, 0); },
          "Collective over the node. Every write before it is seen by all after it.")
      .def("sync_at", &sync, "Collective over the node. The same, of an array of an arena that begins there.")
      .def(
          "replicate",
          [](const std::shared_ptr<segment>& self, const std::string& name, const std::string& arguments,
             const run_table& table) {
            const std::vector<byte_run> runs = runs_of(table);
            const py::gil_scoped_release release;
            replicate(call(name, arguments), self, runs);
          },
          "Collective over the communicator. Carries runs (offset, bytes, node, stride, count) to all nodes.")
      .def(
          "allgather_work",
          [](const std::shared_ptr<segment>& self, const std::string& name, const std::string& arguments,
             std::array<std::size_t, 4> layout, const work& done) {
            const py::gil_scoped_release release;
            allgather(call(name, arguments), self, {layout[0], layout[1], layout[2], layout[3]}, done);
          },
          "Collective over the communicator. Each row from the node that did it.")
      .def(
          "checksum",
          [](const std::shared_ptr<segment>& self, const std::string& name, const std::string& arguments,
             std::size_t offset, std::size_t bytes) {
            const py::gil_scoped_release release;
            return checksum(call(name, arguments), self, offset, bytes);
          },
          "Collective over the communicator. A digest of bytes that all nodes agree on.")
      .def("write", &write, "Local. Copies bytes of this process, at an address, to a place of the segment.")
      .def(
          "read_file",
          [](const std::shared_ptr<segment>& self, const std::string& name, const std::string& arguments, int file,
             std::int64_t modified, const std::string& path, std::size_t offset) {
            const py::gil_scoped_release release;
            read_file(call(name, arguments), self, {file, modified, path}, offset);
          },
          "Collective over the communicator. An open file's bytes from `offset` on, on every node.")
      .def(
          "write_file",
          [](const std::shared_ptr<segment>& self, const std::string& name, const std::string& arguments,
             std::size_t offset, std::size_t bytes, const std::string& path, const std::string& header) {
            const py::gil_scoped_release release;
            write_file(call(name, arguments), self, offset, bytes, path, header);
          },
          "Collective over the communicator. Node 0's bytes, behind a header, as the file at `path`.")
      .def("protect", &segment::protect, "Local. mprotect(2) of this rank's mapping.")
      .def_property_readonly("protected", &segment::is_protected)
      .def("mlock", &segment::lock_pages, "Local. mlock(2).")
      .def("munlock", &segment::unlock_pages, "Local. munlock(2).")
      .def("msync", &segment::synchronize_file, "Local. msync(2).")
      .def(
          "describe",
          [](const segment& self) {
            const descriptor d = describe(self);
            return py::make_tuple(d.pid, d.file, d.start_time, d.device, d.inode, d.bytes);
          },
          "Local. Names the memory for another process.")
      .def_property_readonly("address",
                             [](const segment& self) { return reinterpret_cast<std::uintptr_t>(self.data()); })
      .def_property_readonly("nbytes", &segment::size_bytes)
      .def_property_readonly("id", &segment::id)
      .def_property_readonly("token", [](const segment& self) { return self.home() ? self.home()->token() : 0; })
      .def_property_readonly("description", &segment::description)
      .def_property_readonly("holders", &segment::holders)
      .def_property_readonly("kind", [](const segment& self) {
        return name_of(self.kind());
      });
  module.def(
      "find_segment", [](std::uintptr_t address) { return find_segment(reinterpret_cast<const void*>(address)); },
      "Local. The living segment that holds an address, or None.");
  module.def(
      "segment_of",
      [](std::uint64_t token, std::uint64_t id) -> std::shared_ptr<segment> {
        for (auto& one : living_segments()) {
          if (one->home() && one->home()->token() == token && one->id() == id) {
            return one;
          }
        }
        return nullptr;
      },
      "Local. The living segment of a node (by its token) with that id, or None.");
  module.def("segments", &living_segments, "Local. All living segments of this process.");
  module.def(
      "attach", [](const py::tuple& from) { return attach(descriptor_of(from)); },
      "Local. Maps memory that another process described.");
}

}  // namespace nodeshare::python
