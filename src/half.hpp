// SPDX-License-Identifier: BSD-3-Clause
/// @file
/// Half-precision numbers.
#pragma once

#include <bit>
#include <cstdint>

namespace nodeshare {

/// IEEE 754 binary16, computed with as float.
class half {
 public:
  half() = default;
  explicit half(float value) noexcept
  {
    const auto bits = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t size = bits & 0x7fffffffu;
    std::uint32_t out = 0;
    if (size > 0x7f800000u) {
      out = 0x7e00u | (size >> 13 & 0x3ffu);  // a NaN, quiet
    } else if (size >= 0x477ff000u) {
      out = 0x7c00u;  // 65520 and more round to infinity
    } else if (size < 0x38800000u) {
      // below 2^-14: beside 0.5 a float's last bit is worth 2^-24, as is a subnormal's here, and the sum is rounded
      out = std::bit_cast<std::uint32_t>(std::bit_cast<float>(size) + 0.5f) - std::bit_cast<std::uint32_t>(0.5f);
    } else {
      out = (size - (112u << 23) + 0xfffu + (size >> 13 & 1u)) >> 13;  // to the nearest, ties to even
    }
    bits_ = static_cast<std::uint16_t>(out | (bits >> 16 & 0x8000u));
  }
  explicit operator float() const noexcept
  {
    const std::uint32_t sign = (bits_ & 0x8000u) << 16;
    const std::uint32_t exponent = bits_ >> 10 & 0x1fu;
    const std::uint32_t fraction = bits_ & 0x3ffu;
    std::uint32_t size = (exponent + 112u) << 23 | fraction << 13;
    if (exponent == 0x1fu) {
      size = 0x7f800000u | fraction << 13;
    } else if (exponent == 0) {
      size = std::bit_cast<std::uint32_t>(static_cast<float>(fraction) * 0x1p-24f);
    }
    return std::bit_cast<float>(size | sign);
  }

 private:
  std::uint16_t bits_;
};

}  // namespace nodeshare
