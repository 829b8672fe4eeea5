// SPDX-License-Identifier: BSD-3-Clause
#include "bindings.hpp"

namespace nodeshare::python {
namespace {

/// Python has given an operation by its name, or as a Fortran handle of MPI's.
reduction reduction_of(element type, const std::variant<operation, MPI_Fint>& how)
{
  if (const auto* named = std::get_if<operation>(&how)) {
    return {type, *named};
  }
  return {type, MPI_Op_f2c(std::get<MPI_Fint>(how))};
}

/// The elements at an address; or those that a function puts into a buffer it is given. It returns why it could not.
contribution contribution_of(const std::variant<std::uintptr_t, py::function>& source, std::size_t bytes,
                             std::size_t each)
{
  contribution out;
  if (const auto* address = std::get_if<std::uintptr_t>(&source)) {
    out.data = {reinterpret_cast<const std::byte*>(*address), bytes};
    return out;
  }
  out.put = [each, put = std::get<py::function>(source).ptr()](std::size_t first, std::size_t count, std::byte* to) {
    const py::gil_scoped_acquire hold;
    const auto room = py::memoryview::from_memory(to, static_cast<py::ssize_t>(count * each));
    const auto trouble = py::reinterpret_borrow<py::function>(put)(first, room).cast<std::string>();
    if (!trouble.empty()) {
      throw error(trouble);
    }
  };
  return out;
}

}  // namespace

void bind_reduce(py::module_& module)
{
  using std::string;
  py::enum_<operation> operations(module, "Operation");
  for (const auto by : {operation::sum, operation::prod, operation::min, operation::max, operation::band,
                        operation::bor, operation::bxor, operation::land, operation::lor, operation::lxor}) {
    operations.value(name_of(reduction(element::int8, by)), by);
  }
  py::enum_<element>(module, "Element")
      .value("bool", element::boolean)
      .value("int8", element::int8)
      .value("int16", element::int16)
      .value("int32", element::int32)
      .value("int64", element::int64)
      .value("uint8", element::uint8)
      .value("uint16", element::uint16)
      .value("uint32", element::uint32)
      .value("uint64", element::uint64)
      .value("float16", element::float16)
      .value("float32", element::float32)
      .value("float64", element::float64)
      .value("longdouble", element::long_double)
      .value("complex64", element::complex64)
      .value("complex128", element::complex128)
      .value("clongdouble", element::complex_long_double);
  module.def(
      "allreduce",
      [](const std::shared_ptr<segment>& memory, const string& name, const string& arguments, std::size_t offset,
         std::size_t count, element type, const std::variant<operation, MPI_Fint>& how,
         const std::variant<std::uintptr_t, py::function>& source) {
        const std::size_t each = bytes_of(type);
        const contribution mine = contribution_of(source, count * each, each);
        const py::gil_scoped_release release;
        allreduce(call(name, arguments), memory, {offset, count}, reduction_of(type, how), mine);
      },
      "Collective over the communicator. Elements of all ranks, combined, into every node's array.");
  module.def(
      "allreduce_copies",
      [](const std::shared_ptr<segment>& memory, const string& name, const string& arguments, std::size_t offset,
         std::size_t count, element type, const std::variant<operation, MPI_Fint>& how) {
        const py::gil_scoped_release release;
        allreduce_copies(call(name, arguments), memory, {offset, count}, reduction_of(type, how));
      },
      "Collective over the communicator. The nodes' copies combined.");
}

}  // namespace nodeshare::python
