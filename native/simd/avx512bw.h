// SPDX-License-Identifier: Apache-2.0

// 512-bit vectors for CPUs with the AVX-512 of 2017 (F, BW, VL, DQ), which has no instruction that counts
// bits: bytes for table lookups, as in avx2.h.
#pragma once

#include "avx512_intrinsics.h"

#include "../types.h"

namespace bittern::avx512bw {

#include "ymm.inl.h"

#include "zmm.inl.h"

// Sixteen unsigned 16-bit numbers, widened.
static inline I32 load(const u16* p) {
  return {_mm512_cvtepu16_epi32(load_8_words(p))};
}

// Bytes, also seen as little-endian 16-bit words (even byte low, odd byte high).
constexpr i64 kBytes = 64;
struct Bytes {
  __m512i bits;
};

static inline Bytes zero_bytes() {
  return {_mm512_setzero_si512()};
}
static inline Bytes load_bytes(const void* p) {
  return {_mm512_loadu_si512(p)};
}
static inline void store_bytes(void* p, Bytes x) {
  _mm512_storeu_si512(p, x.bits);
}
// The same 16 bytes in all four quarters, as shuffle tables are.
static inline Bytes load_table(const u8* p) {
  return {_mm512_broadcast_i32x4(load_8_halves(p))};
}
// table[i] for every byte i < 16.
static inline Bytes lookup(Bytes table, Bytes i) {
  return {_mm512_shuffle_epi8(table.bits, i.bits)};
}
static inline Bytes add_bytes(Bytes a, Bytes b) {
  return {_mm512_add_epi8(a.bits, b.bits)};
}
static inline Bytes subtract_bytes(Bytes a, Bytes b) {
  return {_mm512_sub_epi8(a.bits, b.bits)};
}
static inline Bytes add_words(Bytes a, Bytes b) {
  return {_mm512_add_epi16(a.bits, b.bits)};
}
static inline Bytes mask_words(Bytes a, int mask) {
  return {_mm512_and_si512(a.bits, _mm512_set1_epi16(static_cast<short>(mask)))};
}
template <int n>
static inline Bytes words_left(Bytes a) {
  return {_mm512_slli_epi16(a.bits, n)};
}
template <int n>
static inline Bytes words_right(Bytes a) {
  return {_mm512_srli_epi16(a.bits, n)};
}

// As in avx2.h. An emulated vector is no register.
static inline void keep_in_register(Bytes& x) {
#if defined(BITTERN_EMULATE_AVX512)
  (void)x;
#else
  __asm__("" : "+v"(x.bits));
#endif
}

#include "nibble_pairs.inl.h"

}  // namespace bittern::avx512bw
