// SPDX-License-Identifier: BSD-3-Clause
#include "copying.hpp"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace nodeshare {

void stream(std::byte* to, const std::byte* from, std::size_t bytes) noexcept
{
#if defined(__SSE2__)
  constexpr std::size_t line = 64;
  const std::size_t head = std::min(bytes, (line - reinterpret_cast<std::uintptr_t>(to) % line) % line);
  std::memcpy(to, from, head);
  std::size_t done = head;
  for (; done + line <= bytes; done += line) {
    for (std::size_t part = done; part < done + line; part += sizeof(__m128i)) {
      _mm_stream_si128(reinterpret_cast<__m128i*>(to + part),
                       _mm_loadu_si128(reinterpret_cast<const __m128i*>(from + part)));
    }
  }
  std::memcpy(to + done, from + done, bytes - done);
  _mm_sfence();  // or a meeting would not order these stores
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

}  // namespace nodeshare
