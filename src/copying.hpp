// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Copying and clearing more than the cache holds.
#pragma once

#include <cstddef>

namespace nodeshare {

/// From here on it pays to write past the caches. (The C library does so from hundreds of MiB only.)
inline constexpr std::size_t worth_streaming = std::size_t{4} << 20;

/// Local. As memcpy(3), by stores that leave the caches alone and need not read a line before they write it; where the
/// processor has none, it is memcpy.
/// Source: Intel 64 and IA-32 Architectures Optimization Reference Manual, "Non-temporal stores".
void stream(std::byte* to, const std::byte* from, std::size_t bytes) noexcept;

/// Local. Either, whichever is faster for so many bytes.
void copy_bytes(std::byte* to, const std::byte* from, std::size_t bytes) noexcept;

/// Local. As memset(3) with zero, by such stores where it pays.
void clear(std::byte* to, std::size_t bytes) noexcept;

}  // namespace nodeshare
