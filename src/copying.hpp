// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Copies of more than the cache holds.
#pragma once

#include <cstddef>

namespace nodeshare {

/// From here on it pays to write past the cache. (The C library does so from hundreds of MiB only.)
inline constexpr std::size_t worth_streaming = std::size_t{4} << 20;

/// As memcpy(3), by stores that leave the cache alone and need not read a line before they write it; where the
/// processor has none, it is memcpy.
void stream(std::byte* to, const std::byte* from, std::size_t bytes) noexcept;

}  // namespace nodeshare
