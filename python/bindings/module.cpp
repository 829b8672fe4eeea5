// SPDX-License-Identifier: BSD-3-Clause
#include <mpi.h>

#include "bindings.hpp"

namespace nodeshare::python {

/// What the extension was linked to, which need not be what mpi4py loaded.
static std::string library_version()
{
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = "";
  int length = 0;
  MPI_Get_library_version(text, &length);
  return text;
}

}  // namespace nodeshare::python

PYBIND11_MODULE(_core, module)
{
  using namespace nodeshare::python;
  module.doc() = "The compiled core of nodeshare: nodes and bytes. Use the package, not this.";
  module.def("library_version", &library_version, "Local. The MPI library that this extension uses.");
  bind_errors(module);
  bind_buffer(module);
  bind_segment(module);
  bind_node(module);
  bind_arena(module);
  bind_work(module);
  bind_locks(module);
  bind_counter(module);
  bind_barrier(module);
  bind_containers(module);
  bind_reduce(module);
  bind_add(module);
  bind_limits(module);
}
