// SPDX-License-Identifier: Apache-2.0

// Vectors of one element: the portable meaning of what avx2.h and avx512.h do to several elements at once.
#pragma once

#include <cstring>

#include "../types.h"

namespace bittern::scalar {

constexpr i64 kLanes = 1;
constexpr int kRegisters = 16;
using F32 = float;
using F64 = double;
using I32 = i32;

static inline F32 load(const float* p) {
  return *p;
}
static inline F64 load(const double* p) {
  return *p;
}
static inline I32 load(const i32* p) {
  return *p;
}
static inline void store(float* p, F32 x) {
  *p = x;
}
static inline void store(i32* p, I32 x) {
  *p = x;
}

static inline F32 widen(bf16 x) {
  const u32 bits = u32{x.bits} << 16;
  F32 y;
  std::memcpy(&y, &bits, sizeof y);
  return y;
}

// float16 has 5 exponent bits (bias 15) and 10 fraction bits; every value is a float32 (bias 127, 23 bits).
static inline F32 widen(f16 x) {
  const u32 sign = u32{x.bits} >> 15 << 31, exponent = x.bits >> 10 & 31, fraction = x.bits & 1023;
  u32 bits = 0;
  if (exponent == 0) {  // zero or subnormal: fraction * 2^-24
    const F32 magnitude = static_cast<F32>(fraction) * (1.0f / (1 << 24));
    return sign != 0 ? -magnitude : magnitude;
  }
  bits = exponent == 31 ? 255u << 23 : (exponent + 127 - 15) << 23;
  bits |= sign | fraction << 13;
  F32 y;
  std::memcpy(&y, &bits, sizeof y);
  return y;
}

// Rounds to nearest, ties to even. Below 2^-14 a float16 is a multiple of 2^-24, which adding 2^-1 rounds to,
// since a float32 of that size has its last bit there.
static inline f16 narrow(float x) {
  u32 bits;
  std::memcpy(&bits, &x, sizeof bits);
  const u32 sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<u16>(sign | 0x7e00u | (magnitude >> 13 & 0x3ffu))};
  if (magnitude >= 0x477ff000u) return {static_cast<u16>(sign | 0x7c00u)};
  if (magnitude < 0x38800000u) {
    const float shifted = (x < 0 ? -x : x) + 0.5f;
    u32 sum;
    std::memcpy(&sum, &shifted, sizeof sum);
    return {static_cast<u16>(sign | (sum - 0x3f000000u))};
  }
  const u32 rounded = magnitude + 0xfffu + (magnitude >> 13 & 1u);
  return {static_cast<u16>(sign | ((rounded - 0x38000000u) >> 13))};
}
static inline F32 widen(float x) {
  return x;
}
static inline F64 widen(double x) {
  return x;
}
static inline I32 widen(i32 x) {
  return x;
}
static inline F32 load(const f16* p) {
  return widen(*p);
}
static inline F32 load(const bf16* p) {
  return widen(*p);
}

static inline F32 splat(float x) {
  return x;
}
static inline F64 splat(double x) {
  return x;
}
static inline I32 splat(i32 x) {
  return x;
}

// Bit i says whether lane i of x >= t; false for NaN.
static inline u32 at_least(F32 x, F32 t) {
  return x >= t;
}
static inline u32 at_least(F64 x, F64 t) {
  return x >= t;
}
static inline u32 at_least(I32 x, I32 t) {
  return x >= t;
}

static inline F32 add(F32 a, F32 b) {
  return a + b;
}
// a * b + c, rounded once.
static inline F32 multiply_add(F32 a, F32 b, F32 c) {
  return __builtin_fmaf(a, b, c);
}
static inline F32 multiply(F32 a, F32 b) {
  return a * b;
}
static inline I32 add(I32 a, I32 b) {
  return a + b;
}
static inline I32 subtract(I32 a, I32 b) {
  return a - b;
}
static inline F32 to_float(I32 x) {
  return static_cast<F32>(x);
}

static inline F32 subtract(F32 a, F32 b) {
  return a - b;
}
static inline F32 divide(F32 a, F32 b) {
  return a / b;
}
static inline F32 square_root(F32 x) {
  return __builtin_sqrtf(x);
}
static inline F32 absolute(F32 x) {
  return __builtin_fabsf(x);
}
// a > b ? a : b
static inline F32 maximum(F32 a, F32 b) {
  return a > b ? a : b;
}
// c - a * b, rounded once.
static inline F32 subtract_product(F32 c, F32 a, F32 b) {
  return __builtin_fmaf(-a, b, c);
}

using Mask = bool;
static inline Mask greater(F32 a, F32 b) {
  return a > b;
}
static inline Mask equal(F32 a, F32 b) {
  return a == b;
}
// Lanes that are infinite or NaN.
static inline Mask not_finite(F32 x) {
  return !(__builtin_fabsf(x) <= 3.40282347e38f);
}
static inline Mask either(Mask a, Mask b) {
  return a || b;
}
static inline bool any(Mask m) {
  return m;
}
static inline F32 select(Mask m, F32 yes, F32 no) {
  return m ? yes : no;
}
static inline float largest_lane(F32 x) {
  return x;
}

// Lanes of 32 bits as what else they stand for, and whole numbers.
static inline I32 to_bits(F32 x) {
  I32 bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}
static inline F32 from_bits(I32 bits) {
  F32 x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}
static inline I32 ascending(i32 first) {
  return first;
}
static inline I32 exclusive_or(I32 a, I32 b) {
  return a ^ b;
}
static inline I32 both(I32 a, I32 b) {
  return a & b;
}
// Modulo 2^32.
static inline I32 multiply(I32 a, I32 b) {
  return static_cast<I32>(static_cast<u32>(a) * static_cast<u32>(b));
}
static inline I32 add_wrapped(I32 a, I32 b) {
  return static_cast<I32>(static_cast<u32>(a) + static_cast<u32>(b));
}
// Fills with 0.
template <int n>
static inline I32 shift_right(I32 x) {
  return static_cast<I32>(static_cast<u32>(x) >> n);
}
static inline I32 minimum(I32 a, I32 b) {
  return a < b ? a : b;
}
static inline I32 maximum(I32 a, I32 b) {
  return a > b ? a : b;
}
static inline Mask greater(I32 a, I32 b) {
  return a > b;
}
static inline I32 select(Mask m, I32 yes, I32 no) {
  return m ? yes : no;
}
// a < b ? a : b
static inline F32 minimum(F32 a, F32 b) {
  return a < b ? a : b;
}
static inline F32 floor_of(F32 x) {
  return __builtin_floorf(x);
}
// Of whole numbers below 2^31.
static inline I32 to_int(F32 x) {
  return static_cast<I32>(x);
}
static inline I32 load(const u16* p) {
  return static_cast<I32>(*p);
}
static inline void store_halves(u16* p, I32 x) {
  *p = static_cast<u16>(x);
}
static inline void store(f16* p, F32 x) {
  *p = narrow(x);
}

#include "turn_bits.inl.h"

}  // namespace bittern::scalar
