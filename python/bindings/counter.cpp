// SPDX-License-Identifier: BSD-3-Clause
#include "c_type.hpp"

namespace nodeshare::python {
namespace {

using type_of_counter = c_object<counter>;

PyObject* add_k(PyObject* self, PyObject* const* values, Py_ssize_t count)
{
  if (count > 1) {
    PyErr_SetString(PyExc_TypeError, "add() takes at most 1 argument: k");
    return nullptr;
  }
  long long k = 1;
  if (count == 1) {
    PyObject* const number = PyNumber_Index(values[0]);
    if (number == nullptr) {
      return nullptr;
    }
    int beyond = 0;
    k = PyLong_AsLongLongAndOverflow(number, &beyond);
    Py_DECREF(number);
    if (beyond != 0) {
      PyErr_SetString(PyExc_OverflowError, "k does not fit into the 64 bits of a Counter");
      return nullptr;
    }
  }
  return PyLong_FromLongLong(type_of_counter::of(self).add(k));
}

PyObject* value(PyObject* self, void*) { return PyLong_FromLongLong(type_of_counter::of(self).value()); }

int refuse_value(PyObject*, PyObject*, void*)
{
  PyErr_SetString(PyExc_AttributeError,
                  "value can't be set: what other ranks add at that moment would be lost; use add(k)");
  return -1;
}

PyObject* text(PyObject* self)
{
  const counter& one = type_of_counter::of(self);
  return PyUnicode_FromFormat("<%s, value %lld>", one.memory()->description().c_str(),
                              static_cast<long long>(one.value()));
}

PyMethodDef methods[] = {
    {"add", as_method(&add_k), METH_FASTCALL,
     "add($self, k=1, /)\n--\n\nLocal. Adds k, and gives the value before: no two ranks get the same."},
    {nullptr, nullptr, 0, nullptr}};

PyGetSetDef attributes[] = {{"value", &value, &refuse_value, "Local. The value now.", nullptr},
                            {"_memory", &type_of_counter::memory, nullptr, "The memory that it lies in.", nullptr},
                            {nullptr, nullptr, nullptr, nullptr, nullptr}};

}  // namespace

void bind_counter(py::module_& module)
{
  type_of_counter::bind(module, "nodeshare._core.Counter", "A number in shared memory.", methods, attributes, &text);
  module.def(
      "make_counter",
      [](const place& where, const std::string& name, const std::string& arguments) {
        const py::gil_scoped_release release;
        return counter(call(name, arguments), where.meets).memory();
      },
      "Collective over the communicator. Memory of a counter.");
}

}  // namespace nodeshare::python
