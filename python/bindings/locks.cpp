// SPDX-License-Identifier: BSD-3-Clause
#include <algorithm>
#include <chrono>
#include <string>

#include "c_type.hpp"

namespace nodeshare::python {
namespace {

// What Python calls a lock: a mutex, or one side of a shared mutex.

struct whole {
  mutex of;
  explicit whole(const std::shared_ptr<segment>& memory) : of(memory) {}

  void lock() { of.lock(); }
  bool try_lock_for(std::chrono::duration<double> timeout) { return of.try_lock_for(timeout); }
  void unlock() { of.unlock(); }
  [[nodiscard]] bool locked() const { return of.locked(); }
  [[nodiscard]] std::string holders() const { return of.owner(); }
  [[nodiscard]] const std::shared_ptr<segment>& memory() const { return of.memory(); }
  static constexpr const char* side = "";
};

struct one_side {
  shared_mutex of;
  explicit one_side(const std::shared_ptr<segment>& memory) : of(memory) {}
  [[nodiscard]] const std::shared_ptr<segment>& memory() const { return of.memory(); }
};

struct writer : one_side {
  using one_side::one_side;
  void lock() { of.lock(); }
  bool try_lock_for(std::chrono::duration<double> timeout) { return of.try_lock_for(timeout); }
  void unlock() { of.unlock(); }
  [[nodiscard]] bool locked() const { return !holders().empty(); }
  [[nodiscard]] std::string holders() const { return of.writer(); }
  static constexpr const char* side = ".writer";
};

struct reader : one_side {
  using one_side::one_side;
  void lock() { of.lock_shared(); }
  bool try_lock_for(std::chrono::duration<double> timeout) { return of.try_lock_shared_for(timeout); }
  void unlock() { of.unlock_shared(); }
  [[nodiscard]] bool locked() const { return !holders().empty(); }
  [[nodiscard]] std::string holders() const { return of.readers(); }
  static constexpr const char* side = ".reader";
};

bool set_invalid(const std::string& text)
{
  try {
    throw invalid_argument(text);
  } catch (...) {
    set_python_error();
  }
  return false;
}

/// acquire(blocking=True, timeout=-1) as seconds: negative for ever, 0 not at all. False with Python's exception set.
bool read_arguments(PyObject* const* values, Py_ssize_t count, PyObject* names, double& seconds)
{
  PyObject* given[2] = {nullptr, nullptr};  // blocking, timeout
  const Py_ssize_t named = names == nullptr ? 0 : PyTuple_GET_SIZE(names);
  if (count + named > 2) {
    PyErr_SetString(PyExc_TypeError, "acquire() takes at most 2 arguments: blocking, timeout");
    return false;
  }
  std::copy(values, values + count, given);
  for (Py_ssize_t i = 0; i < named; ++i) {
    PyObject* const name = PyTuple_GET_ITEM(names, i);
    const int place = PyUnicode_CompareWithASCIIString(name, "blocking") == 0  ? 0
                      : PyUnicode_CompareWithASCIIString(name, "timeout") == 0 ? 1
                                                                               : 2;
    if (place == 2 || given[place] != nullptr) {
      PyErr_Format(PyExc_TypeError, "acquire() takes blocking and timeout, each once; got %R", name);
      return false;
    }
    given[place] = values[count + i];
  }
  const int blocking = given[0] == nullptr ? 1 : PyObject_IsTrue(given[0]);
  const double timeout = given[1] == nullptr || given[1] == Py_None ? -1 : PyFloat_AsDouble(given[1]);
  if (blocking < 0 || (timeout == -1 && PyErr_Occurred() != nullptr)) {
    return false;
  }
  if (!(timeout >= 0 || timeout == -1)) {
    return set_invalid("timeout is " + std::to_string(timeout) + ": seconds are needed, or -1 to wait for ever");
  }
  if (blocking == 0 && timeout != -1) {
    return set_invalid("with blocking=False there is no waiting, so no timeout can be given");
  }
  seconds = blocking == 0 ? 0 : timeout;
  return true;
}

/// The GIL is held unless there is something to wait for: to let it go takes longer than the lock.
template <class Lock>
bool take(Lock& lock, double seconds)
{
  using time = std::chrono::duration<double>;
  if (lock.try_lock_for(time(0))) {
    return true;
  }
  if (seconds == 0) {
    return false;
  }
  const py::gil_scoped_release release;
  if (seconds > 0) {
    return lock.try_lock_for(time(seconds));
  }
  lock.lock();
  return true;
}

template <class Lock>
struct type_of : c_object<Lock> {
  using base = c_object<Lock>;

  static PyObject* acquire(PyObject* self, PyObject* const* values, Py_ssize_t count, PyObject* names)
  {
    try {
      double seconds = -1;
      return read_arguments(values, count, names, seconds) ? PyBool_FromLong(take(base::of(self), seconds)) : nullptr;
    } catch (...) {
      set_python_error();
      return nullptr;
    }
  }

  static PyObject* enter(PyObject* self, PyObject*)
  {
    try {
      return PyBool_FromLong(take(base::of(self), -1));
    } catch (...) {
      set_python_error();
      return nullptr;
    }
  }

  static PyObject* release(PyObject* self, PyObject*)
  {
    try {
      base::of(self).unlock();
      Py_RETURN_NONE;
    } catch (...) {
      set_python_error();
      return nullptr;
    }
  }

  static PyObject* leave(PyObject* self, PyObject* const*, Py_ssize_t) { return release(self, nullptr); }

  static PyObject* locked(PyObject* self, PyObject*) { return PyBool_FromLong(base::of(self).locked()); }

  static PyObject* text(PyObject* self)
  {
    const std::string holders = base::of(self).holders();
    return PyUnicode_FromFormat("<%s%s, %s%s>", base::of(self).memory()->description().c_str(), Lock::side,
                                holders.empty() ? "free" : "held by ", holders.c_str());
  }

  static void bind(py::module_& module, const char* name, const char* doc)
  {
    static PyMethodDef methods[] = {
        {"acquire", as_method(&acquire), METH_FASTCALL | METH_KEYWORDS,
         "acquire($self, /, blocking=True, timeout=-1)\n--\n\n"
         "Local. Waits until it is free, for `timeout` seconds at most (-1, None: for ever); whether this thread holds "
         "it "
         "now.\n\nRaises Error when this thread would wait for itself, PeerError when an owner has ended."},
        {"release", &release, METH_NOARGS,
         "release($self, /)\n--\n\nLocal. Gives it back. Raises Error when this thread does not hold it."},
        {"locked", &locked, METH_NOARGS, "locked($self, /)\n--\n\nLocal. Whether anybody holds it now."},
        {"__enter__", &enter, METH_NOARGS, "Local. As acquire()."},
        {"__exit__", as_method(&leave), METH_FASTCALL, "Local. As release()."},
        {nullptr, nullptr, 0, nullptr}};
    static PyGetSetDef attributes[] = {{"_memory", &base::memory, nullptr, "The memory that it lies in.", nullptr},
                                       {nullptr, nullptr, nullptr, nullptr, nullptr}};
    base::bind(module, name, doc, methods, attributes, &text);
  }
};

template <class Value>
std::shared_ptr<segment> make_words(const place& where, const std::string& name, const std::string& arguments)
{
  const py::gil_scoped_release release;
  return Value(call(name, arguments), where.meets).memory();
}

}  // namespace

void bind_locks(py::module_& module)
{
  type_of<whole>::bind(module, "nodeshare._core.Lock", "A lock in shared memory.");
  type_of<reader>::bind(module, "nodeshare._core.Reader", "What many may hold, if nobody holds the writer's side.");
  type_of<writer>::bind(module, "nodeshare._core.Writer", "What one may hold, if nobody holds the readers' side.");
  module.def("make_lock", &make_words<mutex>, "Collective over the communicator. Memory of a lock.");
  module.def("make_rw_lock", &make_words<shared_mutex>,
             "Collective over the communicator. Memory of a Reader and Writer.");
}

}  // namespace nodeshare::python
