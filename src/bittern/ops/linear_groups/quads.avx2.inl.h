// SPDX-License-Identifier: Apache-2.0

// Quads: words whose four bytes are the codes of four neighbouring columns, eight rows at a time.
// Included inside namespace avx2.

namespace {

constexpr int kTileVectors = 2;  // of rows that are worked on together

struct Quads {
  __m256i bits;
};
inline Quads load_quads(const u32* p) {
  return {load_8_words(p)};
}
inline void store_quads(u32* p, Quads q) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), q.bits);
}
// The bits of each byte that `mask` has, after a shift of the words.
inline Quads field(Quads words, int shift, int mask) {
  return {_mm256_and_si256(_mm256_srli_epi32(words.bits, shift), _mm256_set1_epi8(static_cast<char>(mask)))};
}
// low + 4 * high, of bytes below 4 and 2.
inline Quads with_high(Quads low, Quads high) {
  return {_mm256_or_si256(low.bits, _mm256_slli_epi32(high.bits, 2))};
}
// Byte by byte less `half`, as signed numbers.
inline Quads centered(Quads q, int half) {
  return {_mm256_sub_epi8(q.bits, _mm256_set1_epi8(static_cast<char>(half)))};
}
// The numbers of one byte of each word.
inline F32 number(Quads q, int byte) {
  const __m256i shifted = _mm256_srli_epi32(q.bits, 8 * byte);
  return _mm256_cvtepi32_ps(byte == 3 ? shifted : _mm256_and_si256(shifted, _mm256_set1_epi32(255)));
}
inline F32 signed_number(Quads q, int byte) {
  return _mm256_cvtepi32_ps(_mm256_srai_epi32(_mm256_slli_epi32(q.bits, 24 - 8 * byte), 24));
}
inline F32 load_small(const u8* p) {
  return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p))));
}

// Products of unsigned bytes of the weight with signed ones of the input: two at a time in 16 bits
// (VPMADDUBSW), which hold the sums of a tile of columns where a code is at most 15: 8 * 2 * 15 * 127 =
// 30,480.
constexpr int kMostCode = 15;
constexpr bool kNarrows = true;  // sums of a tile of columns are narrower than those of a group
struct Narrow {
  __m256i sums;
};
inline Narrow narrow_zero() {
  return {_mm256_setzero_si256()};
}
inline Quads splat_quad(const std::int8_t* p) {
  i32 four;
  std::memcpy(&four, p, sizeof four);
  return {_mm256_set1_epi32(four)};
}
inline Narrow step(Narrow sum, Quads w, Quads x) {
  __m256i next = _mm256_add_epi16(sum.sums, _mm256_maddubs_epi16(w.bits, x.bits));
  // emits nothing; without it the compiler forms all products of a tile first and keeps them in memory
  __asm__("" : "+x"(next));
  return {next};
}
inline I32 widened(Narrow x) {
  return {_mm256_madd_epi16(x.sums, _mm256_set1_epi16(1))};
}

}  // namespace
