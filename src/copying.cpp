// SPDX-License-Identifier: BSD-3-Clause
#include "copying.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <tuple>
#include <utility>

namespace nodeshare {
namespace {

#if defined(__SSE2__)
/// Stores all whole cache lines of `bytes` past the caches, the 16 bytes at an offset as `value` says, and returns
/// where they begin and end.
///
/// Two pages before it comes to a page it touches it: to translate its address takes a third of the time otherwise, as
/// shared memory seldom has pages of more than 4 KiB, and such stores are not seen by the processor's prefetchers.
template <class Value>
std::pair<std::size_t, std::size_t> stream_lines(std::byte* to, std::size_t bytes, const Value& value) noexcept
{
  constexpr std::size_t line = 64;
  constexpr std::size_t page = 4096;
  const auto address = reinterpret_cast<std::uintptr_t>(to);
  const std::size_t begin = std::min(bytes, (line - address % line) % line);
  std::size_t done = begin;
  for (; done + line <= bytes; done += line) {
    if ((address + done) % page == 0) {
      _mm_prefetch(reinterpret_cast<const char*>(address + done + 2 * page), _MM_HINT_NTA);
    }
    for (std::size_t part = done; part < done + line; part += sizeof(__m128i)) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + part), value(part));
    }
  }
  _mm_sfence();  // or a meeting would not order these stores
  return {begin, done};
}
#endif

}  // namespace

void stream(std::byte* to, const std::byte* from, std::size_t bytes) noexcept
{
#if defined(__SSE2__)
  const auto [begin, end] = stream_lines(
      to, bytes, [from](std::size_t part) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + part)); });
  std::memcpy(to, from, begin);
  std::memcpy(to + end, from + end, bytes - end);
#else
  std::memcpy(to, from, bytes);
#endif
}

void copy_bytes(std::byte* to, const std::byte* from, std::size_t bytes) noexcept
{
  if (bytes >= worth_streaming) {
    stream(to, from, bytes);
  } else if (bytes > 0) {
    std::memcpy(to, from, bytes);
  }
}

void clear(std::byte* to, std::size_t bytes) noexcept
{
  std::size_t begin = 0;
  std::size_t end = 0;
#if defined(__SSE2__)
  if (bytes >= worth_streaming) {
    std::tie(begin, end) = stream_lines(to, bytes, [](std::size_t) { return _mm_setzero_si128(); });
  }
#endif
  std::fill(to, to + begin, std::byte{0});
  std::fill(to + end, to + bytes, std::byte{0});
}

}  // namespace nodeshare
