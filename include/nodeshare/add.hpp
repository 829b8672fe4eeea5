// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Adding to elements that other ranks of the node add to at the same time.
#pragma once

#include <atomic>
#include <complex>
#include <type_traits>

namespace nodeshare {

/// Local. Adds `value` to an element of shared memory. Nothing is lost when other ranks of the node `add` to it at the
/// same time, and nobody waits for a rank that is killed: it is one atomic operation of the processor (of a complex
/// number one for each part), which also works between processes ([atomics.lockfree] of the C++ standard). What other
/// ranks have added is seen in full after the next `sync`.
template <class T>
void add(T& to, std::type_identity_t<T> value) noexcept
{
  static_assert(std::is_arithmetic_v<T> && !std::is_same_v<T, bool>, "only numbers can be added to");
  static_assert(std::atomic_ref<T>::is_always_lock_free, "there is no atomic operation on that many bytes");
  std::atomic_ref(to).fetch_add(value, std::memory_order_relaxed);
}

template <class T>
void add(std::complex<T>& to, std::type_identity_t<std::complex<T>> value) noexcept
{
  T(&parts)[2] = reinterpret_cast<T(&)[2]>(to);  // [complex.numbers]: that is how it lies in memory
  add(parts[0], value.real());
  add(parts[1], value.imag());
}

}  // namespace nodeshare
