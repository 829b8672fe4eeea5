// SPDX-License-Identifier: BSD-3-Clause
#include <atomic>
#include <complex>
#include <cstring>

#include "bindings.hpp"
#include "half.hpp"

namespace nodeshare::python {
namespace {

using adder = void (*)(std::byte* to, const std::byte* value);

template <class T>
void add_one(std::byte* to, const std::byte* value)
{
  T number;
  std::memcpy(&number, value, sizeof number);
  add(*reinterpret_cast<T*>(to), number);
}

void add_half(std::byte* to, const std::byte* value)
{
  half number;
  std::memcpy(&number, value, sizeof number);
  const std::atomic_ref<std::uint16_t> word(*reinterpret_cast<std::uint16_t*>(to));
  std::uint16_t seen = word.load(std::memory_order_relaxed);
  std::uint16_t sum = 0;
  do {
    sum =
        std::bit_cast<std::uint16_t>(half(static_cast<float>(std::bit_cast<half>(seen)) + static_cast<float>(number)));
  } while (!word.compare_exchange_weak(seen, sum, std::memory_order_relaxed));
}

/// Null where the processor has no such operation.
adder adder_of(element type)
{
  switch (type) {
    case element::int8: return add_one<std::int8_t>;
    case element::int16: return add_one<std::int16_t>;
    case element::int32: return add_one<std::int32_t>;
    case element::int64: return add_one<std::int64_t>;
    case element::uint8: return add_one<std::uint8_t>;
    case element::uint16: return add_one<std::uint16_t>;
    case element::uint32: return add_one<std::uint32_t>;
    case element::uint64: return add_one<std::uint64_t>;
    case element::float16: return add_half;
    case element::float32: return add_one<float>;
    case element::float64: return add_one<double>;
    case element::complex64: return add_one<std::complex<float>>;
    case element::complex128: return add_one<std::complex<double>>;
    default: return nullptr;
  }
}

/// Calls `each` with the addresses of all elements of two arrays of one shape.
template <class Each>
void walk(std::span<const py::ssize_t> shape, std::byte* a, const py::ssize_t* a_steps, const std::byte* b,
          const py::ssize_t* b_steps, const Each& each)
{
  if (shape.empty()) {
    each(a, b);
    return;
  }
  for (py::ssize_t i = 0; i < shape[0]; ++i) {
    walk(shape.subspan(1), a + i * a_steps[0], a_steps + 1, b + i * b_steps[0], b_steps + 1, each);
  }
}

/// Adds values to elements: those of the view `where`; or, with a base address, those that many bytes from it.
void add_all(element type, const py::array& where, const py::array& values, std::uintptr_t base)
{
  const adder add = adder_of(type);
  if (add == nullptr) {
    throw invalid_argument("no processor adds to bool or to a long double in one step: take an array of another type");
  }
  const std::span shape(where.shape(), static_cast<std::size_t>(where.ndim()));
  auto* places = static_cast<std::byte*>(const_cast<void*>(where.data()));
  const auto* numbers = static_cast<const std::byte*>(values.data());
  const py::ssize_t* steps = where.strides();
  const py::ssize_t* number_steps = values.strides();
  const py::gil_scoped_release release;
  if (base == 0) {
    walk(shape, places, steps, numbers, number_steps, add);
    return;
  }
  walk(shape, places, steps, numbers, number_steps, [&](const std::byte* offset, const std::byte* number) {
    add(reinterpret_cast<std::byte*>(base) + *reinterpret_cast<const std::int64_t*>(offset), number);
  });
}

}  // namespace

void bind_add(py::module_& module)
{
  module.def("add", &add_all,
             "Local. Adds values to the elements of a view, or at offsets from an address, atomically.");
}

}  // namespace nodeshare::python
