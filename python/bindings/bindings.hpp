// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// What the parts of the extension share.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include "nodeshare/nodeshare.hpp"

namespace nodeshare::python {

namespace py = pybind11;

/// A topology together with its node object: what Python calls a topology.
struct place {
  topology where;
  std::shared_ptr<node> meets;
};

/// In a `catch` of a function that Python calls without pybind11: what was thrown becomes Python's exception.
void set_python_error() noexcept;

void bind_errors(py::module_& module);   ///< exceptions, signals and places in the user's script
void bind_node(py::module_& module);
void bind_segment(py::module_& module);
void bind_arena(py::module_& module);
void bind_work(py::module_& module);
void bind_locks(py::module_& module);    ///< Lock, RWLock's two sides
void bind_counter(py::module_& module);
void bind_barrier(py::module_& module);
void bind_containers(py::module_& module);  ///< List, Dict, Queue and Pipe
void bind_reduce(py::module_& module);
void bind_add(py::module_& module);
void bind_buffer(py::module_& module);
void bind_limits(py::module_& module);

}  // namespace nodeshare::python
