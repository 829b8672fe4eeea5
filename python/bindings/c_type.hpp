// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Types of Python's C interface over words in shared memory, for what is called often: a method of pybind11 takes
/// longer than an uncontended lock.
#pragma once

#include <cstring>
#include <memory>
#include <new>

#include "bindings.hpp"

namespace nodeshare::python {

/// A function of another signature, as the flags beside it in a PyMethodDef say.
template <class Function>
PyCFunction as_method(Function function) noexcept
{
  return reinterpret_cast<PyCFunction>(reinterpret_cast<void (*)()>(function));
}

/// A Python object that holds one of C++.
template <class Value>
struct c_object {
  PyObject_HEAD;
  Value value;

  static Value& of(PyObject* self) noexcept { return reinterpret_cast<c_object*>(self)->value; }

  /// Type(segment): what lies in that memory already.
  static PyObject* make(PyTypeObject* type, PyObject* arguments, PyObject* /*names*/)
  {
    try {
      const auto memory = py::reinterpret_borrow<py::tuple>(arguments)[0].cast<std::shared_ptr<segment>>();
      PyObject* const self = type->tp_alloc(type, 0);
      if (self != nullptr) {
        new (&of(self)) Value(memory);
      }
      return self;
    } catch (...) {
      set_python_error();
      return nullptr;
    }
  }

  static void drop(PyObject* self)
  {
    PyTypeObject* const type = Py_TYPE(self);
    of(self).~Value();
    type->tp_free(self);
    Py_DECREF(type);
  }

  static PyObject* memory(PyObject* self, void*) { return py::cast(of(self).memory()).release().ptr(); }

  /// Adds the type to the module; `methods` and `attributes` without the entry of zeros at their end, and static.
  static void bind(py::module_& module, const char* name, const char* doc, PyMethodDef* methods,
                   PyGetSetDef* attributes, reprfunc text)
  {
    PyType_Slot slots[] = {{Py_tp_new, reinterpret_cast<void*>(&make)},
                           {Py_tp_dealloc, reinterpret_cast<void*>(&drop)},
                           {Py_tp_repr, reinterpret_cast<void*>(text)},
                           {Py_tp_methods, methods},
                           {Py_tp_getset, attributes},
                           {Py_tp_doc, const_cast<char*>(doc)},
                           {0, nullptr}};
    PyType_Spec spec{name, static_cast<int>(sizeof(c_object)), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE, slots};
    PyObject* const type = PyType_FromSpec(&spec);
    if (type == nullptr) {
      throw py::error_already_set();
    }
    const char* const last = std::strrchr(name, '.');
    module.add_object(last + 1, py::reinterpret_steal<py::object>(type));
  }
};

}  // namespace nodeshare::python
