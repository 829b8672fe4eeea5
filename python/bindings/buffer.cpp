// SPDX-License-Identifier: BSD-3-Clause
#include "bindings.hpp"

namespace nodeshare::python {
namespace {

/// Hands out the buffer of the object's attribute `array`: a Python class cannot export a buffer itself before 3.12.
int get_buffer(PyObject* self, Py_buffer* view, int flags)
{
  PyObject* array = PyObject_GetAttrString(self, "array");
  if (array == nullptr) {
    PyErr_Clear();
    PyErr_SetString(PyExc_BufferError, "this array has been closed");
    view->obj = nullptr;
    return -1;
  }
  // NumPy asks an object for its buffer before it asks for __array__, and a buffer can't say how a record is padded
  if (py::reinterpret_borrow<py::array>(array).dtype().kind() == 'V') {
    Py_DECREF(array);
    PyErr_SetString(PyExc_BufferError, "a buffer cannot describe records in full: use memoryview(a.array)");
    view->obj = nullptr;
    return -1;
  }
  const int code = PyObject_GetBuffer(array, view, flags);
  Py_DECREF(array);
  return code;
}

}  // namespace

void bind_buffer(py::module_& module)
{
  static PyType_Slot slots[] = {{Py_bf_getbuffer, reinterpret_cast<void*>(get_buffer)},
                                {Py_tp_doc, const_cast<char*>("Base of handles: exports the buffer of its `array`.")},
                                {0, nullptr}};
  static PyType_Spec spec{"nodeshare._core.BufferOfArray", sizeof(PyObject), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
                          slots};
  module.attr("BufferOfArray") = py::reinterpret_steal<py::object>(PyType_FromSpec(&spec));
}

}  // namespace nodeshare::python
