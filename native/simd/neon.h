// SPDX-License-Identifier: Apache-2.0

// 128-bit vectors of 64-bit ARM. Four lanes of 32 bits for the element-wise parts, bytes for the counts of
// the binary convolution.
#pragma once

#include <arm_neon.h>

#include <cstring>

#include "../types.h"

namespace bittern::neon {

constexpr i64 kLanes = 4;
constexpr int kRegisters = 32;
using F32 = float32x4_t;
struct F64 {
  float64x2_t low, high;
};
struct I32 {
  int32x4_t bits;
};
using Mask = uint32x4_t;

// The numbers that 16-bit elements stand for.
static inline F32 widen_4(uint16x4_t x, f16) {
  return vcvt_f32_f16(vreinterpret_f16_u16(x));
}
static inline F32 widen_4(uint16x4_t x, bf16) {
  return vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(x), 16));
}

static inline float widen(f16 x) {
  return vgetq_lane_f32(widen_4(vdup_n_u16(x.bits), x), 0);
}
static inline float widen(bf16 x) {
  return vget_lane_f32(vreinterpret_f32_u32(vdup_n_u32(u32{x.bits} << 16)), 0);
}
static inline float widen(float x) {
  return x;
}
static inline double widen(double x) {
  return x;
}
static inline i32 widen(i32 x) {
  return x;
}
// Rounds to nearest, ties to even.
static inline f16 narrow(float x) {
  return {vget_lane_u16(vreinterpret_u16_f16(vcvt_f16_f32(vdupq_n_f32(x))), 0)};
}

static inline F32 load(const float* p) {
  return vld1q_f32(p);
}
static inline F32 load(const f16* p) {
  return widen_4(vld1_u16(&p->bits), f16{});
}
static inline F32 load(const bf16* p) {
  return widen_4(vld1_u16(&p->bits), bf16{});
}
static inline F64 load(const double* p) {
  return {vld1q_f64(p), vld1q_f64(p + 2)};
}
static inline I32 load(const i32* p) {
  return {vld1q_s32(p)};
}
static inline void store(float* p, F32 x) {
  vst1q_f32(p, x);
}
static inline void store(i32* p, I32 x) {
  vst1q_s32(p, x.bits);
}

static inline F32 splat(float x) {
  return vdupq_n_f32(x);
}
static inline F64 splat(double x) {
  return {vdupq_n_f64(x), vdupq_n_f64(x)};
}
static inline I32 splat(i32 x) {
  return {vdupq_n_s32(x)};
}

// Bit i of lane i where the mask is set, added up.
static inline u32 bits_of(Mask m) {
  constexpr u32 kBits[4] = {1, 2, 4, 8};
  return vaddvq_u32(vandq_u32(m, vld1q_u32(kBits)));
}
// Bit i says whether lane i of x >= t; false for NaN.
static inline u32 at_least(F32 x, F32 t) {
  return bits_of(vcgeq_f32(x, t));
}
static inline u32 at_least(F64 x, F64 t) {
  return bits_of(vcombine_u32(vmovn_u64(vcgeq_f64(x.low, t.low)), vmovn_u64(vcgeq_f64(x.high, t.high))));
}
static inline u32 at_least(I32 x, I32 t) {
  return bits_of(vcgeq_s32(x.bits, t.bits));
}

static inline F32 add(F32 a, F32 b) {
  return vaddq_f32(a, b);
}
// a * b + c, rounded once.
static inline F32 multiply_add(F32 a, F32 b, F32 c) {
  return vfmaq_f32(c, a, b);
}
static inline F32 multiply(F32 a, F32 b) {
  return vmulq_f32(a, b);
}
static inline I32 add(I32 a, I32 b) {
  return {vaddq_s32(a.bits, b.bits)};
}
static inline I32 subtract(I32 a, I32 b) {
  return {vsubq_s32(a.bits, b.bits)};
}
static inline F32 to_float(I32 x) {
  return vcvtq_f32_s32(x.bits);
}

static inline F32 subtract(F32 a, F32 b) {
  return vsubq_f32(a, b);
}
static inline F32 divide(F32 a, F32 b) {
  return vdivq_f32(a, b);
}
static inline F32 square_root(F32 x) {
  return vsqrtq_f32(x);
}
static inline F32 absolute(F32 x) {
  return vabsq_f32(x);
}
// a > b ? a : b, which the instruction for the maximum is not for NaN and -0.
static inline F32 maximum(F32 a, F32 b) {
  return vbslq_f32(vcgtq_f32(a, b), a, b);
}
// c - a * b, rounded once.
static inline F32 subtract_product(F32 c, F32 a, F32 b) {
  return vfmsq_f32(c, a, b);
}

static inline Mask greater(F32 a, F32 b) {
  return vcgtq_f32(a, b);
}
static inline Mask equal(F32 a, F32 b) {
  return vceqq_f32(a, b);
}
// Lanes that are infinite or NaN.
static inline Mask not_finite(F32 x) {
  return vmvnq_u32(vcaleq_f32(x, vdupq_n_f32(3.40282347e38f)));
}
static inline Mask either(Mask a, Mask b) {
  return vorrq_u32(a, b);
}
static inline bool any(Mask m) {
  return vmaxvq_u32(m) != 0;
}
static inline F32 select(Mask m, F32 yes, F32 no) {
  return vbslq_f32(m, yes, no);
}
static inline float largest_lane(F32 x) {
  return vmaxnmvq_f32(x);
}

// Lanes of 32 bits as what else they stand for, and whole numbers.
static inline I32 to_bits(F32 x) {
  return {vreinterpretq_s32_f32(x)};
}
static inline F32 from_bits(I32 x) {
  return vreinterpretq_f32_s32(x.bits);
}
static inline I32 ascending(i32 first) {
  constexpr i32 kOrder[4] = {0, 1, 2, 3};
  return {vaddq_s32(vdupq_n_s32(first), vld1q_s32(kOrder))};
}
static inline I32 exclusive_or(I32 a, I32 b) {
  return {veorq_s32(a.bits, b.bits)};
}
static inline I32 both(I32 a, I32 b) {
  return {vandq_s32(a.bits, b.bits)};
}
// Modulo 2^32.
static inline I32 multiply(I32 a, I32 b) {
  return {vmulq_s32(a.bits, b.bits)};
}
static inline I32 add_wrapped(I32 a, I32 b) {
  return add(a, b);
}
// Fills with 0.
template <int n>
static inline I32 shift_right(I32 x) {
  return {vreinterpretq_s32_u32(vshrq_n_u32(vreinterpretq_u32_s32(x.bits), n))};
}
static inline I32 minimum(I32 a, I32 b) {
  return {vminq_s32(a.bits, b.bits)};
}
static inline I32 maximum(I32 a, I32 b) {
  return {vmaxq_s32(a.bits, b.bits)};
}
static inline Mask greater(I32 a, I32 b) {
  return vcgtq_s32(a.bits, b.bits);
}
static inline I32 select(Mask m, I32 yes, I32 no) {
  return {vbslq_s32(m, yes.bits, no.bits)};
}
// a < b ? a : b
static inline F32 minimum(F32 a, F32 b) {
  return vbslq_f32(vcltq_f32(a, b), a, b);
}
static inline F32 floor_of(F32 x) {
  return vrndmq_f32(x);
}
// Of whole numbers below 2^31.
static inline I32 to_int(F32 x) {
  return {vcvtq_s32_f32(x)};
}
static inline I32 load(const u16* p) {
  return {vreinterpretq_s32_u32(vmovl_u16(vld1_u16(p)))};
}
static inline void store_halves(u16* p, I32 x) {
  vst1_u16(p, vmovn_u32(vreinterpretq_u32_s32(x.bits)));
}
static inline void store(f16* p, F32 x) {
  vst1_u16(&p->bits, vreinterpret_u16_f16(vcvt_f16_f32(x)));
}

// 16 bytes, also seen as little-endian 16-bit words (even byte low, odd byte high).
constexpr i64 kBytes = 16;
struct Bytes {
  uint8x16_t bits;
};

static inline Bytes zero_bytes() {
  return {vdupq_n_u8(0)};
}
static inline Bytes load_bytes(const u8* p) {
  return {vld1q_u8(p)};
}
// The same four bytes in every lane of 32 bits.
static inline Bytes splat_word(const u32* p) {
  return {vreinterpretq_u8_u32(vld1q_dup_u32(p))};
}
static inline Bytes add_bytes(Bytes a, Bytes b) {
  return {vaddq_u8(a.bits, b.bits)};
}
// Number of positions where the bits of a and b differ, byte by byte.
static inline Bytes count_differences(Bytes a, Bytes b) {
  return {vcntq_u8(veorq_u8(a.bits, b.bits))};
}
// The sum of the four bytes of every lane.
static inline I32 sum_of_bytes(Bytes x) {
  return {vreinterpretq_s32_u32(vpaddlq_u16(vpaddlq_u8(x.bits)))};
}
// The same, added to `sum`.
static inline I32 add_sum_of_bytes(I32 sum, Bytes x) {
  return {vreinterpretq_s32_u32(vpadalq_u16(vreinterpretq_u32_s32(sum.bits), vpaddlq_u8(x.bits)))};
}

static inline void store_bytes(u8* p, Bytes x) {
  vst1q_u8(p, x.bits);
}
static inline Bytes load_table(const u8* p) {
  return load_bytes(p);
}
// table[i] for every byte i < 16, and 0 for others.
static inline Bytes lookup(Bytes table, Bytes i) {
  return {vqtbl1q_u8(table.bits, i.bits)};
}
static inline Bytes subtract_bytes(Bytes a, Bytes b) {
  return {vsubq_u8(a.bits, b.bits)};
}
static inline Bytes mask_words(Bytes a, int mask) {
  return {vandq_u8(a.bits, vreinterpretq_u8_u16(vdupq_n_u16(static_cast<u16>(mask))))};
}
template <int n>
static inline Bytes words_left(Bytes a) {
  return {vreinterpretq_u8_u16(vshlq_n_u16(vreinterpretq_u16_u8(a.bits), n))};
}
template <int n>
static inline Bytes words_right(Bytes a) {
  return {vreinterpretq_u8_u16(vshrq_n_u16(vreinterpretq_u16_u8(a.bits), n))};
}
// Bytes of a and b in turn, from the first or from the last eight.
static inline Bytes interleave_low(Bytes a, Bytes b) {
  return {vzip1q_u8(a.bits, b.bits)};
}
static inline Bytes interleave_high(Bytes a, Bytes b) {
  return {vzip2q_u8(a.bits, b.bits)};
}
static inline void store_sixteens(u8* out, i64, Bytes x) {
  store_bytes(out, x);
}

// Two words of 64 bits.
constexpr i64 kWords = 2;
struct Words {
  uint64x2_t bits;
};

static inline Words zero_words() {
  return {vdupq_n_u64(0)};
}
static inline Words load_words(const u64* p) {
  return {vld1q_u64(p)};
}
static inline void store_words(u64* p, Words x) {
  vst1q_u64(p, x.bits);
}
static inline Words splat_word(u64 x) {
  return {vdupq_n_u64(x)};
}
static inline Words xor_words(Words a, Words b) {
  return {veorq_u64(a.bits, b.bits)};
}
static inline Words and_words(Words a, Words b) {
  return {vandq_u64(a.bits, b.bits)};
}
static inline Words or_words(Words a, Words b) {
  return {vorrq_u64(a.bits, b.bits)};
}
// Bit by bit, the value that two or three of a, b and c have: c where a and b differ, else a.
static inline Words majority(Words a, Words b, Words c) {
  return {vbslq_u64(veorq_u64(a.bits, b.bits), c.bits, a.bits)};
}
// Bit by bit, a + b + c = sum + 2 * carry.
static inline void add_bits(Words a, Words b, Words c, Words& sum, Words& carry) {
  const Words differ = xor_words(a, b);
  carry = {vbslq_u64(differ.bits, c.bits, a.bits)};
  sum = xor_words(differ, c);
}

// The bytes of four vectors side by side: byte i of p0, of p1, of p2, of p3 at out + 4 * i.
static inline void store_planes(u8* out, Words p0, Words p1, Words p2, Words p3) {
  vst4q_u8(out, {{vreinterpretq_u8_u64(p0.bits), vreinterpretq_u8_u64(p1.bits), vreinterpretq_u8_u64(p2.bits),
                  vreinterpretq_u8_u64(p3.bits)}});
}
// Lane i of vector j: `weight` times the number of channel c = j * kLanes + i, whose bits, lowest first, are
// bits c % 8 of the four bytes at planes + c / 8 * 4. The product moves bit 8 k to bit 24 + k; none of the 16
// bits that it consists of meet.
template <int weight>
static inline I32 sum_planes(const u8* planes, int j) {
  constexpr i32 kShifts[8] = {0, -1, -2, -3, -4, -5, -6, -7};
  const uint32x4_t bytes = vld1q_dup_u32(reinterpret_cast<const u32*>(planes + 4 * (j / 2)));
  const int32x4_t shifts = vld1q_s32(kShifts + 4 * (j % 2));
  const uint32x4_t bits = vandq_u32(vshlq_u32(bytes, shifts), vdupq_n_u32(0x01010101));
  const uint32x4_t sums = vshrq_n_u32(vmulq_n_u32(bits, 0x01020408), 24);
  return {vmulq_n_s32(vreinterpretq_s32_u32(sums), weight)};
}

// Emits nothing. What uses `next` comes behind what gave `done`, so that the compiler does not run ahead and
// lack registers.
static inline void keep_order(Bytes& done, Bytes& next) {
  __asm__("" : "+w"(done.bits), "+w"(next.bits));
}
// Emits nothing. The compiler does not run ahead with later loads.
static inline void keep_in_register(Bytes& x) {
  __asm__("" : "+w"(x.bits));
}
// Emits nothing. The address is incremented by the load, not computed anew from an index.
static inline void keep_increment(const u32*& p) {
  __asm__("" : "+r"(p));
}

#include "turn_bits.inl.h"

#include "neon_planes.inl.h"

}  // namespace bittern::neon
