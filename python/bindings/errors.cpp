// SPDX-License-Identifier: BSD-3-Clause
#include <cstring>

#include "bindings.hpp"
#include "nodeshare/hooks.hpp"

namespace nodeshare::python {
namespace {

PyObject* place_function = nullptr;  // returns "script.py:7"
PyObject* signal_error = nullptr;    // what a signal handler raised during a wait
PyObject* place_error = nullptr;     // what a signal handler raised while the place was asked for

/// Fetches what a Python signal handler raised, to be raised when the wait has been wound up.
bool signal_raised()
{
  if (Py_IsInitialized() == 0) {
    return false;
  }
  const py::gil_scoped_acquire gil;
  if (PyErr_CheckSignals() == 0) {
    return false;
  }
  PyObject *type = nullptr, *value = nullptr, *traceback = nullptr;
  PyErr_Fetch(&type, &value, &traceback);
  PyErr_NormalizeException(&type, &value, &traceback);
  Py_XDECREF(type);
  Py_XDECREF(traceback);
  Py_XDECREF(signal_error);
  signal_error = value;
  return true;
}

/// The GIL, if this thread has it.
void* let_go_of_gil() { return Py_IsInitialized() != 0 && PyGILState_Check() != 0 ? PyEval_SaveThread() : nullptr; }

void take_gil_back(void* state) { PyEval_RestoreThread(static_cast<PyThreadState*>(state)); }

/// Called by Python where it goes on.
int raise_place_error(void*)
{
  PyObject* error = std::exchange(place_error, nullptr);
  if (error == nullptr) {
    return 0;
  }
  PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error)), error);
  Py_DECREF(error);
  return -1;
}

std::string user_place()
{
  if (place_function == nullptr || Py_IsInitialized() == 0) {
    return "";
  }
  const py::gil_scoped_acquire gil;
  const py::error_scope keep;  // a Python error may be under way in this thread
  try {
    return py::reinterpret_borrow<py::object>(place_function)().cast<std::string>();
  } catch (
      const py::error_already_set& why) {  // most often of a signal handler, which ran as any Python code may run one
    Py_XDECREF(place_error);
    place_error = py::object(why.value()).release().ptr();
    Py_AddPendingCall(raise_place_error, nullptr);
    return "";
  }
}

void raise_as(const char* name, const std::exception& what)
{
  const py::object type = py::module_::import("nodeshare.error").attr(name);
  // a text that was cut to fit a slot may end within a character
  const auto text = py::reinterpret_steal<py::object>(
      PyUnicode_DecodeUTF8(what.what(), static_cast<py::ssize_t>(std::strlen(what.what())), "replace"));
  PyErr_SetObject(type.ptr(), text.ptr());
}

/// Arrays that only a reference cycle keeps are let go of.
void collect_garbage()
{
  const py::gil_scoped_acquire hold;
  try {
    py::module_::import("gc").attr("collect")();  // not PyGC_Collect(), which does nothing after gc.disable()
  } catch (py::error_already_set& why) {
    why.discard_as_unraisable("collecting garbage before asking for memory once more");
  }
}

void translate(std::exception_ptr thrown)
{
  try {
    if (thrown) {
      std::rethrow_exception(thrown);
    }
  } catch (const interrupted& what) {
    if (signal_error == nullptr) {
      PyErr_SetString(PyExc_KeyboardInterrupt, what.what());
      return;
    }
    PyObject* error = std::exchange(signal_error, nullptr);
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error)), error);
    Py_DECREF(error);
  } catch (const invalid_argument& what) {
    raise_as("InvalidArgument", what);
  } catch (const mismatch& what) {
    raise_as("Mismatch", what);
  } catch (const out_of_shared_memory& what) {
    raise_as("OutOfSharedMemory", what);
  } catch (const peer_error& what) {
    raise_as("PeerError", what);
  } catch (const mpi_error& what) {
    const py::object type = py::module_::import("nodeshare.error").attr("MPIError");
    PyErr_SetObject(type.ptr(), py::make_tuple(what.routine(), what.code(), what.what()).ptr());
  } catch (const file_error& what) {
    const auto path = py::reinterpret_steal<py::object>(PyUnicode_DecodeFSDefault(what.path().c_str()));
    const py::object error =
        py::reinterpret_borrow<py::object>(PyExc_OSError)(what.code(), std::strerror(what.code()), path);
    PyErr_SetObject(reinterpret_cast<PyObject*>(Py_TYPE(error.ptr())), error.ptr());  // FileNotFoundError, …
  } catch (const error& what) {
    raise_as("Error", what);
  }
}

}  // namespace

void set_python_error() noexcept
{
  try {
    translate(std::current_exception());
  } catch (py::error_already_set& what) {
    what.restore();
  } catch (const std::exception& what) {
    PyErr_SetString(PyExc_RuntimeError, what.what());
  }
}

void bind_errors(py::module_& module)
{
  py::register_local_exception_translator(&translate);
  hooks = {.interrupted = signal_raised,
           .let_go = let_go_of_gil,
           .take_back = take_gil_back,
           .where = user_place,
           .collect_garbage = collect_garbage};
  module.def(
      "set_place", [](py::object function) { place_function = function.release().ptr(); },
      "Local. Sets the function that names the user's file and line.");
}

}  // namespace nodeshare::python
