// SPDX-License-Identifier: Apache-2.0

// 256-bit vectors. Eight lanes of 32 bits for the element-wise parts, bytes for the table lookups of the
// binary convolution.
#pragma once

#include <immintrin.h>

#include "../types.h"

namespace bittern::avx2 {

#include "ymm.inl.h"

constexpr i64 kLanes = 8;
constexpr int kRegisters = 16;
using F32 = __m256;
struct F64 {
  __m256d low, high;
};
struct I32 {
  __m256i bits;
};

static inline F32 load(const float* p) {
  return _mm256_loadu_ps(p);
}
static inline F32 load(const f16* p) {
  return widen_8(p);
}
static inline F32 load(const bf16* p) {
  return widen_8(p);
}
static inline F64 load(const double* p) {
  return {_mm256_loadu_pd(p), _mm256_loadu_pd(p + 4)};
}
static inline I32 load(const i32* p) {
  return {load_8_words(p)};
}
static inline void store(float* p, F32 x) {
  _mm256_storeu_ps(p, x);
}
static inline void store(i32* p, I32 x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.bits);
}

static inline F32 splat(float x) {
  return _mm256_set1_ps(x);
}
static inline F64 splat(double x) {
  return {_mm256_set1_pd(x), _mm256_set1_pd(x)};
}
static inline I32 splat(i32 x) {
  return {_mm256_set1_epi32(x)};
}

// Bit i says whether lane i of x >= t; false for NaN.
static inline u32 at_least(F32 x, F32 t) {
  return static_cast<u32>(_mm256_movemask_ps(_mm256_cmp_ps(x, t, _CMP_GE_OQ)));
}
static inline u32 at_least(F64 x, F64 t) {
  const int low = _mm256_movemask_pd(_mm256_cmp_pd(x.low, t.low, _CMP_GE_OQ));
  const int high = _mm256_movemask_pd(_mm256_cmp_pd(x.high, t.high, _CMP_GE_OQ));
  return static_cast<u32>(low | high << 4);
}
static inline u32 at_least(I32 x, I32 t) {
  const __m256i below = _mm256_cmpgt_epi32(t.bits, x.bits);
  return static_cast<u32>(_mm256_movemask_ps(_mm256_castsi256_ps(below))) ^ 0xffu;
}

static inline F32 add(F32 a, F32 b) {
  return _mm256_add_ps(a, b);
}
// a * b + c, rounded once.
static inline F32 multiply_add(F32 a, F32 b, F32 c) {
  return _mm256_fmadd_ps(a, b, c);
}
static inline F32 multiply(F32 a, F32 b) {
  return _mm256_mul_ps(a, b);
}
static inline I32 add(I32 a, I32 b) {
  return {_mm256_add_epi32(a.bits, b.bits)};
}
static inline I32 subtract(I32 a, I32 b) {
  return {_mm256_sub_epi32(a.bits, b.bits)};
}
static inline F32 to_float(I32 x) {
  return _mm256_cvtepi32_ps(x.bits);
}

static inline F32 subtract(F32 a, F32 b) {
  return _mm256_sub_ps(a, b);
}
static inline F32 divide(F32 a, F32 b) {
  return _mm256_div_ps(a, b);
}
static inline F32 square_root(F32 x) {
  return _mm256_sqrt_ps(x);
}
static inline F32 absolute(F32 x) {
  return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x);
}
// a > b ? a : b
static inline F32 maximum(F32 a, F32 b) {
  return _mm256_max_ps(a, b);
}
// c - a * b, rounded once.
static inline F32 subtract_product(F32 c, F32 a, F32 b) {
  return _mm256_fnmadd_ps(a, b, c);
}

using Mask = __m256;
static inline Mask greater(F32 a, F32 b) {
  return _mm256_cmp_ps(a, b, _CMP_GT_OQ);
}
static inline Mask equal(F32 a, F32 b) {
  return _mm256_cmp_ps(a, b, _CMP_EQ_OQ);
}
// Lanes that are infinite or NaN.
static inline Mask not_finite(F32 x) {
  return _mm256_cmp_ps(absolute(x), _mm256_set1_ps(3.40282347e38f), _CMP_NLE_UQ);
}
static inline Mask either(Mask a, Mask b) {
  return _mm256_or_ps(a, b);
}
static inline bool any(Mask m) {
  return _mm256_movemask_ps(m) != 0;
}
static inline F32 select(Mask m, F32 yes, F32 no) {
  return _mm256_blendv_ps(no, yes, m);
}
static inline float largest_lane(F32 x) {
  alignas(32) float lanes[8];
  _mm256_store_ps(lanes, x);
  float largest = lanes[0];
  for (int i = 1; i < 8; ++i) largest = lanes[i] > largest ? lanes[i] : largest;
  return largest;
}

// Lanes of 32 bits as what else they stand for, and whole numbers.
static inline I32 to_bits(F32 x) {
  return {_mm256_castps_si256(x)};
}
static inline F32 from_bits(I32 x) {
  return _mm256_castsi256_ps(x.bits);
}
static inline I32 ascending(i32 first) {
  return {_mm256_add_epi32(_mm256_set1_epi32(first), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7))};
}
static inline I32 exclusive_or(I32 a, I32 b) {
  return {_mm256_xor_si256(a.bits, b.bits)};
}
static inline I32 both(I32 a, I32 b) {
  return {_mm256_and_si256(a.bits, b.bits)};
}
// Modulo 2^32.
static inline I32 multiply(I32 a, I32 b) {
  return {_mm256_mullo_epi32(a.bits, b.bits)};
}
static inline I32 add_wrapped(I32 a, I32 b) {
  return add(a, b);
}
// Fills with 0.
template <int n>
static inline I32 shift_right(I32 x) {
  return {_mm256_srli_epi32(x.bits, n)};
}
static inline I32 minimum(I32 a, I32 b) {
  return {_mm256_min_epi32(a.bits, b.bits)};
}
static inline I32 maximum(I32 a, I32 b) {
  return {_mm256_max_epi32(a.bits, b.bits)};
}
static inline Mask greater(I32 a, I32 b) {
  return _mm256_castsi256_ps(_mm256_cmpgt_epi32(a.bits, b.bits));
}
static inline I32 select(Mask m, I32 yes, I32 no) {
  return {_mm256_blendv_epi8(no.bits, yes.bits, _mm256_castps_si256(m))};
}
// a < b ? a : b
static inline F32 minimum(F32 a, F32 b) {
  return _mm256_min_ps(a, b);
}
static inline F32 floor_of(F32 x) {
  return _mm256_floor_ps(x);
}
// Of whole numbers below 2^31.
static inline I32 to_int(F32 x) {
  return {_mm256_cvttps_epi32(x)};
}
static inline void store_halves(u16* p, I32 x) {
  const __m128i low = _mm256_castsi256_si128(x.bits), high = _mm256_extracti128_si256(x.bits, 1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm_packus_epi32(low, high));
}
static inline void store(f16* p, F32 x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

// Eight unsigned 16-bit numbers, widened.
static inline I32 load(const u16* p) {
  return {_mm256_cvtepu16_epi32(load_8_halves(p))};
}

// Bytes, also seen as little-endian 16-bit words (even byte low, odd byte high).
constexpr i64 kBytes = 32;
struct Bytes {
  __m256i bits;
};

static inline Bytes zero_bytes() {
  return {_mm256_setzero_si256()};
}
static inline Bytes load_bytes(const void* p) {
  return {load_8_words(p)};
}
static inline void store_bytes(void* p, Bytes x) {
  _mm256_storeu_si256(static_cast<__m256i*>(p), x.bits);
}
// The same 16 bytes in both halves, as shuffle tables are.
static inline Bytes load_table(const u8* p) {
  return {_mm256_broadcastsi128_si256(load_8_halves(p))};
}
// table[i] for every byte i < 16.
static inline Bytes lookup(Bytes table, Bytes i) {
  return {_mm256_shuffle_epi8(table.bits, i.bits)};
}
static inline Bytes add_bytes(Bytes a, Bytes b) {
  return {_mm256_add_epi8(a.bits, b.bits)};
}
static inline Bytes subtract_bytes(Bytes a, Bytes b) {
  return {_mm256_sub_epi8(a.bits, b.bits)};
}
static inline Bytes add_words(Bytes a, Bytes b) {
  return {_mm256_add_epi16(a.bits, b.bits)};
}
static inline Bytes mask_words(Bytes a, int mask) {
  return {_mm256_and_si256(a.bits, _mm256_set1_epi16(static_cast<short>(mask)))};
}
template <int n>
static inline Bytes words_left(Bytes a) {
  return {_mm256_slli_epi16(a.bits, n)};
}
template <int n>
static inline Bytes words_right(Bytes a) {
  return {_mm256_srli_epi16(a.bits, n)};
}

// Emits nothing. It stops the compiler from running ahead with later loads, for which it would then lack
// registers.
static inline void keep_in_register(Bytes& x) {
  __asm__("" : "+x"(x.bits));
}

// Bytes of a and b in turn, from the first or from the last eight of each 16.
static inline Bytes interleave_low(Bytes a, Bytes b) {
  return {_mm256_unpacklo_epi8(a.bits, b.bits)};
}
static inline Bytes interleave_high(Bytes a, Bytes b) {
  return {_mm256_unpackhi_epi8(a.bits, b.bits)};
}
// The i-th 16 bytes at out + i * pitch.
static inline void store_sixteens(u8* out, i64 pitch, Bytes x) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out), _mm256_castsi256_si128(x.bits));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(out + pitch), _mm256_extracti128_si256(x.bits, 1));
}

#include "nibble_pairs.inl.h"

#include "nibble_planes.inl.h"

// Four words of 64 bits.
constexpr i64 kWords = 4;
struct Words {
  __m256i bits;
};

static inline Words zero_words() {
  return {_mm256_setzero_si256()};
}
static inline Words load_words(const u64* p) {
  return {load_8_words(p)};
}
static inline void store_words(u64* p, Words x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x.bits);
}
static inline Words splat_word(u64 x) {
  return {_mm256_set1_epi64x(static_cast<long long>(x))};
}
static inline Words xor_words(Words a, Words b) {
  return {_mm256_xor_si256(a.bits, b.bits)};
}
static inline Words and_words(Words a, Words b) {
  return {_mm256_and_si256(a.bits, b.bits)};
}
static inline Words or_words(Words a, Words b) {
  return {_mm256_or_si256(a.bits, b.bits)};
}
// Bit by bit, the value that two or three of a, b and c have.
static inline Words majority(Words a, Words b, Words c) {
  return or_words(and_words(a, b), and_words(c, or_words(a, b)));
}
// Bit by bit, a + b + c = sum + 2 * carry.
static inline void add_bits(Words a, Words b, Words c, Words& sum, Words& carry) {
  const Words differ = xor_words(a, b);
  carry = or_words(and_words(a, b), and_words(c, differ));
  sum = xor_words(differ, c);
}

// The bytes of four vectors side by side: byte i of p0, of p1, of p2, of p3 at out + 4 * i.
static inline void store_planes(u8* out, Words p0, Words p1, Words p2, Words p3) {
  const __m256i a = _mm256_unpacklo_epi8(p0.bits, p1.bits), b = _mm256_unpackhi_epi8(p0.bits, p1.bits),
                c = _mm256_unpacklo_epi8(p2.bits, p3.bits), d = _mm256_unpackhi_epi8(p2.bits, p3.bits);
  const __m256i parts[4] = {_mm256_unpacklo_epi16(a, c), _mm256_unpackhi_epi16(a, c),
                            _mm256_unpacklo_epi16(b, d), _mm256_unpackhi_epi16(b, d)};
  BITTERN_UNROLL
  for (int i = 0; i < 4; ++i) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 16 * i), _mm256_castsi256_si128(parts[i]));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(out + 64 + 16 * i), _mm256_extracti128_si256(parts[i], 1));
  }
}
// Lane i of vector j: `weight` times the number of channel c = j * kLanes + i, whose bits, lowest first, are
// bits c % 8 of the four bytes at planes + c / 8 * 4.
template <int weight>
static inline I32 sum_planes(const u8* planes, int j) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const float* four = reinterpret_cast<const float*>(planes + 4 * j);
  const __m256i bytes = _mm256_castps_si256(_mm256_broadcast_ss(four));
  const __m256i bits = _mm256_and_si256(_mm256_srlv_epi32(bytes, lanes), _mm256_set1_epi8(1));
  const __m256i pairs = _mm256_maddubs_epi16(bits, _mm256_set1_epi32(0x08040201));
  return {_mm256_madd_epi16(pairs, _mm256_set1_epi16(weight))};
}

}  // namespace bittern::avx2
