// SPDX-License-Identifier: Apache-2.0

// Words as 32 bytes, for grouped.inl.h. Included inside the namespace of one instruction set.

constexpr i64 kLaneBytes = 32;

// Byte i of the result is byte index[i] of the word that x repeats.
static inline Words pick_bytes(Words x, Words index) {
  return {_mm256_shuffle_epi8(x.bits, index.bits)};
}
// How many bits of each byte are set: by a table of the counts of four bits.
static inline Words count_bits(Words x) {
  const __m256i counts = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2, 1, 2, 2,
                                          3, 1, 2, 2, 3, 2, 3, 3, 4);
  const __m256i four = _mm256_set1_epi8(15);
  const __m256i low = _mm256_and_si256(x.bits, four),
                high = _mm256_and_si256(_mm256_srli_epi16(x.bits, 4), four);
  return {_mm256_add_epi8(_mm256_shuffle_epi8(counts, low), _mm256_shuffle_epi8(counts, high))};
}
static inline Words add_lanes(Words a, Words b) {
  return {_mm256_add_epi8(a.bits, b.bits)};
}
static inline I32 widen_lanes(const u8* p) {
  return {_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)))};
}
