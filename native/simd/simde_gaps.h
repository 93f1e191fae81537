// SPDX-License-Identifier: Apache-2.0

// The few AVX-512 intrinsics that avx512.h uses and SIMDe 0.7.4 lacks; for the emulated test build only.
#pragma once

#include <cmath>

#include "../rounding.h"

static inline simde__m512 bittern_cvtepi32_ps(simde__m512i x) {
  alignas(64) int in[16];
  alignas(64) float out[16];
  simde_mm512_store_si512(in, x);
  for (int i = 0; i < 16; ++i) out[i] = static_cast<float>(in[i]);
  return simde_mm512_load_ps(out);
}

#undef _mm512_cvtepi32_ps
#define _mm512_cvtepi32_ps(x) bittern_cvtepi32_ps(x)

static inline simde__m512i bittern_cvtps_epi32(simde__m512 x) {
  alignas(64) float in[16];
  alignas(64) int out[16];
  simde_mm512_store_ps(in, x);
  for (int i = 0; i < 16; ++i) out[i] = static_cast<int>(std::nearbyint(in[i]));
  return simde_mm512_load_si512(out);
}

#undef _mm512_cvtps_epi32
#define _mm512_cvtps_epi32(x) bittern_cvtps_epi32(x)

// Two products of bf16 added to each float32, one after the other.
static inline simde__m512 emulated_dpbf16(simde__m512 sum, simde__m512i a, simde__m512i b) {
  alignas(64) unsigned short x[32], y[32];
  alignas(64) float lanes[16];
  simde_mm512_store_si512(x, a);
  simde_mm512_store_si512(y, b);
  simde_mm512_store_ps(lanes, sum);
  for (int i = 0; i < 32; ++i) {
    lanes[i / 2] += simde_uint32_as_float32(static_cast<unsigned>(x[i]) << 16) *
                    simde_uint32_as_float32(static_cast<unsigned>(y[i]) << 16);
  }
  return simde_mm512_load_ps(lanes);
}

// bf16 of `low` in the lower half, of `high` in the upper one.
static inline simde__m512i emulated_cvtne2ps_pbh(simde__m512 high, simde__m512 low) {
  alignas(64) float in[32];
  alignas(64) unsigned short out[32];
  simde_mm512_store_ps(in, low);
  simde_mm512_store_ps(in + 16, high);
  for (int i = 0; i < 32; ++i) out[i] = bittern::rounded_bf16(in[i]).bits;
  return simde_mm512_load_si512(out);
}

// Bit i says whether number i of a is below (`sign` -1) or equal to (0) that of b; 0 where the mask is 0.
static inline unsigned bittern_compare_epu16(unsigned mask, simde__m512i a, simde__m512i b, int sign) {
  alignas(64) unsigned short x[32], y[32];
  simde_mm512_store_si512(x, a);
  simde_mm512_store_si512(y, b);
  unsigned found = 0;
  for (int i = 0; i < 32; ++i) {
    const int order = x[i] < y[i] ? -1 : x[i] > y[i];
    found |= static_cast<unsigned>(order == sign) << i;
  }
  return found & mask;
}

#undef _mm512_cmpeq_epi16_mask
#undef _mm512_cmplt_epu16_mask
#undef _mm512_mask_cmplt_epu16_mask
#define _mm512_cmpeq_epi16_mask(a, b) bittern_compare_epu16(~0u, a, b, 0)
#define _mm512_cmplt_epu16_mask(a, b) bittern_compare_epu16(~0u, a, b, -1)
#define _mm512_mask_cmplt_epu16_mask(mask, a, b) bittern_compare_epu16(mask, a, b, -1)

static inline float bittern_reduce_max_ps(simde__m512 x) {
  alignas(64) float lanes[16];
  simde_mm512_store_ps(lanes, x);
  float largest = lanes[0];
  for (int i = 1; i < 16; ++i) largest = lanes[i] > largest ? lanes[i] : largest;
  return largest;
}

#undef _mm512_reduce_max_ps
#define _mm512_reduce_max_ps(x) bittern_reduce_max_ps(x)

static inline simde__m512i bittern_mulhi_epu16(simde__m512i a, simde__m512i b) {
  alignas(64) unsigned short x[32], y[32];
  simde_mm512_store_si512(x, a);
  simde_mm512_store_si512(y, b);
  for (int i = 0; i < 32; ++i) x[i] = static_cast<unsigned short>(static_cast<unsigned>(x[i]) * y[i] >> 16);
  return simde_mm512_load_si512(x);
}

#undef _mm512_mulhi_epu16
#define _mm512_mulhi_epu16(a, b) bittern_mulhi_epu16(a, b)

#undef _mm512_kunpackw
#define _mm512_kunpackw(a, b) \
  static_cast<__mmask32>(static_cast<unsigned>((a) & 0xffffu) << 16 | ((b) & 0xffffu))
#undef _mm512_kunpackd
#define _mm512_kunpackd(a, b) \
  static_cast<__mmask64>(static_cast<unsigned long long>((a) & 0xffffffffu) << 32 | ((b) & 0xffffffffu))

static inline simde__m512i bittern_maskz_loadu_epi8(simde__mmask64 mask, const void* p) {
  alignas(64) unsigned char bytes[64] = {};
  for (int i = 0; i < 64; ++i) {
    if (mask >> i & 1) bytes[i] = static_cast<const unsigned char*>(p)[i];
  }
  return simde_mm512_load_si512(bytes);
}

#undef _mm512_maskz_loadu_epi8
#define _mm512_maskz_loadu_epi8(mask, p) bittern_maskz_loadu_epi8(mask, p)

static inline simde__m128i bittern_mm_maskz_loadu_epi8(simde__mmask16 mask, const void* p) {
  alignas(16) unsigned char bytes[16] = {};
  for (int i = 0; i < 16; ++i) {
    if (mask >> i & 1) bytes[i] = static_cast<const unsigned char*>(p)[i];
  }
  return simde_mm_load_si128(reinterpret_cast<const simde__m128i*>(bytes));
}

#undef _mm_maskz_loadu_epi8
#define _mm_maskz_loadu_epi8(mask, p) bittern_mm_maskz_loadu_epi8(mask, p)

static inline simde__m512 bittern_maskz_loadu_ps(simde__mmask16 mask, const void* p) {
  alignas(64) float lanes[16] = {};
  for (int i = 0; i < 16; ++i) {
    if (mask >> i & 1) lanes[i] = static_cast<const float*>(p)[i];
  }
  return simde_mm512_load_ps(lanes);
}

#undef _mm512_maskz_loadu_ps
#define _mm512_maskz_loadu_ps(mask, p) bittern_maskz_loadu_ps(mask, p)

static inline void bittern_mask_storeu_epi8(void* p, simde__mmask64 mask, simde__m512i x) {
  alignas(64) unsigned char bytes[64];
  simde_mm512_store_si512(bytes, x);
  for (int i = 0; i < 64; ++i) {
    if (mask >> i & 1) static_cast<unsigned char*>(p)[i] = bytes[i];
  }
}

#undef _mm512_mask_storeu_epi8
#define _mm512_mask_storeu_epi8(p, mask, x) bittern_mask_storeu_epi8(p, mask, x)

static inline void bittern_mm_mask_storeu_epi8(void* p, simde__mmask16 mask, simde__m128i x) {
  alignas(16) unsigned char bytes[16];
  simde_mm_store_si128(reinterpret_cast<simde__m128i*>(bytes), x);
  for (int i = 0; i < 16; ++i) {
    if (mask >> i & 1) static_cast<unsigned char*>(p)[i] = bytes[i];
  }
}

#undef _mm_mask_storeu_epi8
#define _mm_mask_storeu_epi8(p, mask, x) bittern_mm_mask_storeu_epi8(p, mask, x)

static inline simde__m128i bittern_cvtepi64_epi8(simde__m512i x) {
  alignas(64) unsigned long long words[8];
  alignas(16) unsigned char bytes[16] = {};
  simde_mm512_store_si512(words, x);
  for (int i = 0; i < 8; ++i) bytes[i] = static_cast<unsigned char>(words[i]);
  return simde_mm_load_si128(reinterpret_cast<const simde__m128i*>(bytes));
}

#undef _mm512_cvtepi64_epi8
#define _mm512_cvtepi64_epi8(x) bittern_cvtepi64_epi8(x)

static inline simde__m512i bittern_cvtepu16_epi32(simde__m256i x) {
  alignas(32) unsigned short in[16];
  alignas(64) unsigned out[16];
  simde_mm256_store_si256(reinterpret_cast<simde__m256i*>(in), x);
  for (int i = 0; i < 16; ++i) out[i] = in[i];
  return simde_mm512_load_si512(out);
}

#undef _mm512_cvtepu16_epi32
#define _mm512_cvtepu16_epi32(x) bittern_cvtepu16_epi32(x)

// SIMDe 0.7.4 has it, but it does not round down when asked to, which is all that avx512.h asks.
static inline simde__m512 bittern_floor_ps(simde__m512 x) {
  alignas(64) float lanes[16];
  simde_mm512_store_ps(lanes, x);
  for (int i = 0; i < 16; ++i) lanes[i] = std::floor(lanes[i]);
  return simde_mm512_load_ps(lanes);
}

#undef _mm512_roundscale_ps
#define _mm512_roundscale_ps(x, down) bittern_floor_ps(x)

static inline simde__m256i bittern_cvtepi32_epi16(simde__m512i x) {
  alignas(64) unsigned in[16];
  alignas(32) unsigned short out[16];
  simde_mm512_store_si512(in, x);
  for (int i = 0; i < 16; ++i) out[i] = static_cast<unsigned short>(in[i]);
  return simde_mm256_load_si256(reinterpret_cast<const simde__m256i*>(out));
}

#undef _mm512_cvtepi32_epi16
#define _mm512_cvtepi32_epi16(x) bittern_cvtepi32_epi16(x)

static inline simde__m512i bittern_cvtepu8_epi32(simde__m128i x) {
  alignas(16) unsigned char in[16];
  alignas(64) unsigned out[16];
  simde_mm_store_si128(reinterpret_cast<simde__m128i*>(in), x);
  for (int i = 0; i < 16; ++i) out[i] = in[i];
  return simde_mm512_load_si512(out);
}

#undef _mm512_cvtepu8_epi32
#define _mm512_cvtepu8_epi32(x) bittern_cvtepu8_epi32(x)

static inline simde__m512i bittern_srai_epi32(simde__m512i x, unsigned n) {
  alignas(64) int words[16];
  simde_mm512_store_si512(words, x);
  for (int& word : words) word >>= n;
  return simde_mm512_load_si512(words);
}

#undef _mm512_srai_epi32
#define _mm512_srai_epi32(x, n) bittern_srai_epi32(x, n)

static inline simde__m512d bittern_cvtps_pd(simde__m256 x) {
  alignas(32) float in[8];
  alignas(64) double out[8];
  simde_mm256_store_ps(in, x);
  for (int i = 0; i < 8; ++i) out[i] = static_cast<double>(in[i]);
  return simde_mm512_load_pd(out);
}

#undef _mm512_cvtps_pd
#define _mm512_cvtps_pd(x) bittern_cvtps_pd(x)

static inline simde__m512i bittern_cvtepi8_epi32(simde__m128i x) {
  alignas(16) signed char in[16];
  alignas(64) int out[16];
  simde_mm_store_si128(reinterpret_cast<simde__m128i*>(in), x);
  for (int i = 0; i < 16; ++i) out[i] = in[i];
  return simde_mm512_load_si512(out);
}

#undef _mm512_cvtepi8_epi32
#define _mm512_cvtepi8_epi32(x) bittern_cvtepi8_epi32(x)

static inline simde__m512i bittern_srav_epi32(simde__m512i x, simde__m512i n) {
  alignas(64) int words[16];
  alignas(64) unsigned bits[16];
  simde_mm512_store_si512(words, x);
  simde_mm512_store_si512(bits, n);
  for (int i = 0; i < 16; ++i) words[i] >>= bits[i] < 32 ? bits[i] : 31;
  return simde_mm512_load_si512(words);
}

#undef _mm512_srav_epi32
#define _mm512_srav_epi32(x, n) bittern_srav_epi32(x, n)

static inline simde__m512i bittern_srav_epi64(simde__m512i x, simde__m512i n) {
  alignas(64) long long words[8];
  alignas(64) unsigned long long bits[8];
  simde_mm512_store_si512(words, x);
  simde_mm512_store_si512(bits, n);
  for (int i = 0; i < 8; ++i) words[i] >>= bits[i] < 64 ? bits[i] : 63;
  return simde_mm512_load_si512(words);
}

#undef _mm512_srav_epi64
#define _mm512_srav_epi64(x, n) bittern_srav_epi64(x, n)

// SIMDe 0.7.4 defines the name for another number of arguments.
#undef _mm512_madd_epi16
#define _mm512_madd_epi16(a, b) simde_mm512_madd_epi16(a, b)
