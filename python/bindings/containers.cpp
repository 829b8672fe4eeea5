// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Values cross here as what pickle makes of them: bytes, or a sequence of a stream and the buffers that belong to it.
#include <algorithm>
#include <deque>
#include <optional>

#include "bindings.hpp"
#include "dict.hpp"
#include "list.hpp"
#include "pipe.hpp"
#include "slice_of.hpp"

namespace nodeshare::python {
namespace {

constexpr std::size_t large = std::size_t{1} << 16;  // bytes: to copy them takes longer than to let go of the GIL

/// The bytes of a Python object, for as long as this lives.
class buffer_of {
 public:
  explicit buffer_of(py::handle object)
  {
    if (PyObject_GetBuffer(object.ptr(), &buffer_, PyBUF_SIMPLE) != 0) {
      throw py::error_already_set();
    }
  }
  ~buffer_of() { PyBuffer_Release(&buffer_); }
  buffer_of(const buffer_of&) = delete;
  buffer_of& operator=(const buffer_of&) = delete;

  [[nodiscard]] const_bytes bytes() const
  {
    return {static_cast<const std::byte*>(buffer_.buf), static_cast<std::size_t>(buffer_.len)};
  }

 private:
  Py_buffer buffer_{};
};

const_bytes bytes_of(py::handle object)
{
  return {reinterpret_cast<const std::byte*>(PyBytes_AS_STRING(object.ptr())),
          static_cast<std::size_t>(PyBytes_GET_SIZE(object.ptr()))};
}

/// A value of Python for the time of a call.
class value_of {
 public:
  explicit value_of(py::handle value, py::handle key = {})
  {
    if (key) {
      key_ = add(key);
    }
    if (PyBytes_Check(value.ptr())) {
      pieces_.push_back(add(value));
    } else {
      for (const py::handle piece : value) {
        pieces_.push_back(add(piece));
      }
    }
  }

  [[nodiscard]] parts get() const { return {key_, pieces_}; }
  [[nodiscard]] bool is_large() const { return stored::bytes_for(get()) > large; }

 private:
  const_bytes add(py::handle object)
  {
    if (PyBytes_Check(object.ptr())) {
      return bytes_of(object);
    }
    return buffers_.emplace_back(std::make_unique<buffer_of>(object))->bytes();
  }

  std::vector<std::unique_ptr<buffer_of>> buffers_;
  const_bytes key_;
  std::vector<const_bytes> pieces_;
};

/// Several, and whether they are large.
struct values_of {
  std::deque<value_of> values;
  std::vector<parts> all;
  bool large = false;

  explicit values_of(const py::list& from)
  {
    for (const py::handle one : from) {
      const value_of& value = values.emplace_back(one);
      all.push_back(value.get());
      large = large || value.is_large();
    }
  }
};

/// Without the GIL where that pays.
template <class Function>
auto without_gil(bool pays, const Function& function)
{
  std::optional<py::gil_scoped_release> release;
  if (pays) {
    release.emplace();
  }
  return function();
}

py::bytes as_bytes(const_bytes from) { return {reinterpret_cast<const char*>(from.data()), from.size()}; }

/// What Python gets: bytes of a small value without buffers; else views of its pieces, which keep them.
py::object as_value(taken&& from)
{
  const stored value = from.value();
  const auto pieces = value.all();
  if (from.is_copy() && pieces.size() == 1) {
    return as_bytes(pieces.front());
  }
  const py::object owner = py::cast(std::move(from));
  const auto whole = py::reinterpret_steal<py::object>(PyMemoryView_FromObject(owner.ptr()));
  const std::byte* const begin = owner.cast<const taken&>().bytes().data();
  py::list out;
  for (const const_bytes piece : owner.cast<const taken&>().value().all()) {
    const auto first = piece.data() - begin;
    const auto last = first + static_cast<py::ssize_t>(piece.size());
    out.append(py::reinterpret_steal<py::object>(PySequence_GetSlice(whole.ptr(), first, last)));
  }
  return out;
}

py::object as_value(std::optional<taken>&& from) { return from ? as_value(std::move(*from)) : py::none(); }

py::list as_values(std::vector<taken>&& from)
{
  py::list out;
  for (taken& one : from) {
    out.append(as_value(std::move(one)));
  }
  return out;
}

py::dict usage_of(heap& memory)
{
  const heap::statistics now = memory.usage();
  py::dict out;
  out["capacity"] = now.capacity;
  out["used"] = now.used;
  out["present"] = now.present;
  out["largest_free"] = now.largest_free;
  out["blocks"] = now.blocks;
  out["views"] = now.views;
  return out;
}

template <class Container>
auto bind_container(py::module_& module, const char* name, const char* doc)
{
  return py::class_<Container>(module, name, doc)
      .def("__len__", &Container::size)
      .def(
          "usage", [](Container& self) { return usage_of(self.memory()); }, "Local. What its memory holds.")
      .def_property_readonly("memory", [](Container& self) { return self.memory().memory(); });
}

/// As lists take it: any integer, however large.
std::ptrdiff_t index_of(py::handle number)
{
  const Py_ssize_t out = PyNumber_AsSsize_t(number.ptr(), PyExc_IndexError);
  if (out == -1 && PyErr_Occurred() != nullptr) {
    throw py::error_already_set();
  }
  return out;
}

void bind_list(py::module_& module)
{
  bind_container<list>(module, "List", "Values in a row.")
      .def(py::init<std::shared_ptr<segment>>())
      .def("get", [](list& self, py::handle index) { return as_value(self.get(index_of(index))); })
      .def("set",
           [](list& self, py::handle index, py::handle value) {
             const value_of from(value);
             const std::ptrdiff_t place = index_of(index);
             without_gil(from.is_large(), [&] { self.set(place, from.get()); });
           })
      .def("insert",
           [](list& self, py::ssize_t index, const py::list& values) {
             const values_of from(values);
             without_gil(from.large, [&] { self.insert(index, from.all); });
           })
      .def("pop", [](list& self, py::handle index) { return as_value(self.pop(index_of(index))); })
      .def("some",
           [](list& self, const py::slice& which) {
             const slice_of these(which);
             list::contents now = self.some([&](std::size_t size) { return these.indices(size); });
             return py::make_tuple(now.changes, as_values(std::move(now.values)));
           })
      .def("replace",
           [](list& self, const py::slice& which, const py::list& fresh) {
             const slice_of these(which);
             const values_of from(fresh);
             const auto wanted = [&](std::size_t size) { return these.with(from.all.size(), size); };
             without_gil(from.large, [&] { self.rearrange(wanted, from.all); });
           })
      .def("remove",
           [](list& self, const py::slice& which) {
             const slice_of these(which);
             self.rearrange([&](std::size_t size) { return these.others(size); });
           })
      .def("reverse",
           [](list& self) {
             self.rearrange([](std::size_t size) {
               auto order = slice_of::all_of(size);
               std::reverse(order.begin(), order.end());
               return order;
             });
           })
      .def("rearrange", [](list& self, std::uint64_t changes, const std::vector<std::int64_t>& order) {
        return without_gil(true, [&] { return self.rearrange_unchanged(changes, order); });
      });
}

void bind_dict(py::module_& module)
{
  bind_container<dict>(module, "Dict", "Values by keys.")
      .def(py::init<std::shared_ptr<segment>>())
      .def("__contains__", [](dict& self, const py::bytes& key) { return self.contains(bytes_of(key)); })
      .def("get", [](dict& self, const py::bytes& key) { return as_value(self.get(bytes_of(key))); })
      .def("set",
           [](dict& self, const py::bytes& key, py::handle value) {
             const value_of from(value, key);
             without_gil(from.is_large(), [&] { self.set(from.get()); });
           })
      .def("setdefault",
           [](dict& self, const py::bytes& key, py::handle value) {
             const value_of from(value, key);
             return as_value(without_gil(from.is_large(), [&] { return self.set_default(from.get()); }));
           })
      .def("pop", [](dict& self, const py::bytes& key) { return as_value(self.pop(bytes_of(key))); })
      .def("popitem",
           [](dict& self) -> py::object {
             std::optional<taken> last = self.pop();
             if (!last) {
               return py::none();
             }
             py::bytes key = as_bytes(last->value().key());
             return py::make_tuple(key, as_value(std::move(*last)));
           })
      .def("clear", &dict::clear)
      .def("keys",
           [](dict& self) {
             py::list out;
             for (const auto& key : self.keys()) {
               out.append(as_bytes(key));
             }
             return out;
           })
      .def("items", [](dict& self) {
        py::list out;
        for (taken& one : self.all()) {
          py::bytes key = as_bytes(one.value().key());
          out.append(py::make_tuple(key, as_value(std::move(one))));
        }
        return out;
      });
}

/// Tries first without letting go of the GIL, which takes longer than what is there at once.
template <class Attempt>
auto patiently(double seconds, const Attempt& attempt)
{
  auto out = attempt(0);
  if (!out && seconds != 0) {
    const py::gil_scoped_release release;
    out = attempt(seconds);
  }
  return out;
}

void bind_queue(py::module_& module)
{
  bind_container<ring>(module, "Queue", "Values on their way.")
      .def(py::init([](const std::shared_ptr<segment>& memory) { return ring(heap(memory), 0, "put()", "get()"); }))
      .def("bound", [](ring& self, std::uint64_t most) { self.bound(most, 0); })
      .def("put",
           [](ring& self, py::handle value, double seconds) {
             const value_of from(value);
             if (from.is_large()) {
               const py::gil_scoped_release release;
               return self.put(from.get(), seconds);
             }
             return patiently(seconds, [&](double most) { return self.put(from.get(), most); });
           })
      .def("get",
           [](ring& self, double seconds) {
             return as_value(patiently(seconds, [&](double most) { return self.get(most); }));
           })
      .def("full", &ring::full)
      .def("task_done", &ring::task_done)
      .def("join", &ring::join, py::call_guard<py::gil_scoped_release>())
      .def_property_readonly("most", &ring::most_values);
}

void bind_pipe(py::module_& module)
{
  py::class_<pipe_end>(module, "PipeEnd", "One end of a pipe.")
      .def(py::init<std::shared_ptr<segment>, int>())
      .def(
          "usage", [](pipe_end& self) { return usage_of(self.memory()); }, "Local. What its memory holds.")
      .def_property_readonly("memory", [](pipe_end& self) { return self.memory().memory(); })
      .def("send",
           [](pipe_end& self, py::handle value) {
             const value_of from(value);
             if (from.is_large()) {
               const py::gil_scoped_release release;
               return self.send(from.get(), -1);
             }
             return patiently(-1, [&](double most) { return self.send(from.get(), most); });
           })
      .def("receive",
           [](pipe_end& self, double seconds) {
             return as_value(patiently(seconds, [&](double most) { return self.receive(most); }));
           })
      .def("poll", [](pipe_end& self,
                      double seconds) { return patiently(seconds, [&](double most) { return self.poll(most); }); })
      .def("close", &pipe_end::close);
}

}  // namespace

void bind_containers(py::module_& module)
{
  py::class_<taken>(module, "Kept", py::buffer_protocol(), "A value in shared memory, which this keeps.")
      .def_buffer([](const taken& self) {
        const const_bytes bytes = self.bytes();
        return py::buffer_info(reinterpret_cast<const std::uint8_t*>(bytes.data()),
                               static_cast<py::ssize_t>(bytes.size()), true);
      });
  module.def(
      "make_heap",
      [](const place& where, const std::string& name, const std::string& arguments, std::size_t capacity) {
        const py::gil_scoped_release release;
        return heap(call(name, arguments), where.meets, capacity).memory();
      },
      "Collective over the communicator. Memory of a container.");
  bind_list(module);
  bind_dict(module);
  bind_queue(module);
  bind_pipe(module);
}

}  // namespace nodeshare::python
