// SPDX-License-Identifier: Apache-2.0

// Words as 64 bytes, for grouped.inl.h. Included inside the namespace of one instruction set.

constexpr i64 kLaneBytes = 64;

// Byte i of the result is byte index[i] of the word that x repeats.
static inline Words pick_bytes(Words x, Words index) {
  return {_mm512_shuffle_epi8(x.bits, index.bits)};
}
// How many bits of each byte are set: by a table of the counts of four bits. (VPOPCNTB is no part of the
// AVX-512 that the kernels ask for.)
static inline Words count_bits(Words x) {
  const __m512i counts =
      _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
  const __m512i four = _mm512_set1_epi8(15);
  const __m512i low = _mm512_and_si512(x.bits, four),
                high = _mm512_and_si512(_mm512_srli_epi16(x.bits, 4), four);
  return {_mm512_add_epi8(_mm512_shuffle_epi8(counts, low), _mm512_shuffle_epi8(counts, high))};
}
static inline Words add_lanes(Words a, Words b) {
  return {_mm512_add_epi8(a.bits, b.bits)};
}
static inline I32 widen_lanes(const u8* p) {
  return {_mm512_cvtepu8_epi32(load_8_halves(p))};
}
