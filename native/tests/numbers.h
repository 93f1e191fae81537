// SPDX-License-Identifier: Apache-2.0

// Numbers in the memory of any float type, for the tests that compare an instruction set with the scalar one.
#pragma once

#include <cmath>
#include <limits>

#include "harness.h"
#include "rounding.h"
#include "simd/scalar.h"

namespace bittern::test {

inline const char* type_name(DType type) {
  return type == DType::f32 ? "f32" : type == DType::bf16 ? "bf16" : "f16";
}

inline i64 bytes_of(DType type) {
  return type == DType::f32 ? 4 : 2;
}

// The bits of x rounded to `type`, in the lower bytes.
inline u32 bits_as(DType type, float x) {
  if (type == DType::bf16) return rounded_bf16(x).bits;
  if (type == DType::f16) return scalar::narrow(x).bits;
  u32 bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

// x rounded to `type`.
inline float rounded(DType type, float x) {
  const u16 bits = static_cast<u16>(bits_as(type, x));
  if (type == DType::bf16) return scalar::widen(bf16{bits});
  if (type == DType::f16) return scalar::widen(f16{bits});
  return x;
}

inline std::vector<u8> in_memory(DType type, const std::vector<float>& x) {
  std::vector<u8> bytes(x.size() * static_cast<std::size_t>(bytes_of(type)));
  for (std::size_t i = 0; i < x.size(); ++i) {
    const u32 bits = bits_as(type, x[i]);
    const std::size_t size = static_cast<std::size_t>(bytes_of(type));
    std::memcpy(bytes.data() + i * size, &bits, size);
  }
  return bytes;
}

// Of many magnitudes; one in eight is 0.
inline std::vector<float> spread_numbers(Random& random, i64 n) {
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& value : x) {
    const float decade = std::pow(10.0f, static_cast<float>(random.below(9)) - 8.0f);
    value = random.below(8) == 0 ? 0.0f : random.uniform() * decade;
  }
  return x;
}

// Puts -0, a subnormal, both infinities and NaN into one of every `period` elements.
inline void spoil(Random& random, std::vector<float>& x, i64 period) {
  constexpr float kOdd[] = {-0.0f, std::numeric_limits<float>::denorm_min(),
                            std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(),
                            std::numeric_limits<float>::quiet_NaN()};
  for (float& value : x) {
    if (random.below(period) == 0) value = kOdd[random.below(5)];
  }
}

}  // namespace bittern::test
