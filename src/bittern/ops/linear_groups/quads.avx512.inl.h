// SPDX-License-Identifier: Apache-2.0

// Quads: words whose four bytes are the codes of four neighbouring columns, sixteen rows at a time.
// Included inside namespace avx512.

namespace {

constexpr int kTileVectors = 4;  // of rows that are worked on together

struct Quads {
  __m512i bits;
};
inline Quads load_quads(const u32* p) {
  return {_mm512_loadu_si512(p)};
}
inline void store_quads(u32* p, Quads q) {
  _mm512_storeu_si512(p, q.bits);
}
// The bits of each byte that `mask` has, after a shift of the words.
inline Quads field(Quads words, int shift, int mask) {
  return {_mm512_and_si512(_mm512_srli_epi32(words.bits, static_cast<unsigned>(shift)),
                           _mm512_set1_epi8(static_cast<char>(mask)))};
}
// low + 4 * high, of bytes below 4 and 2.
inline Quads with_high(Quads low, Quads high) {
  return {_mm512_or_si512(low.bits, _mm512_slli_epi32(high.bits, 2))};
}
// Byte by byte less `half`, as signed numbers.
inline Quads centered(Quads q, int half) {
  return {_mm512_sub_epi8(q.bits, _mm512_set1_epi8(static_cast<char>(half)))};
}
// The numbers of one byte of each word.
inline F32 number(Quads q, int byte) {
  const __m512i shifted = _mm512_srli_epi32(q.bits, static_cast<unsigned>(8 * byte));
  return _mm512_cvtepi32_ps(byte == 3 ? shifted : _mm512_and_si512(shifted, _mm512_set1_epi32(255)));
}
inline F32 signed_number(Quads q, int byte) {
  return _mm512_cvtepi32_ps(
      _mm512_srai_epi32(_mm512_slli_epi32(q.bits, static_cast<unsigned>(24 - 8 * byte)), 24));
}
inline F32 load_small(const u8* p) {
  return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(load_8_halves(p)));
}

// Products of unsigned bytes of the weight with signed ones of the input, four at a time (VPDPBUSD).
constexpr int kMostCode = 255;
constexpr bool kNarrows = false;  // sums of a tile of columns are narrower than those of a group
struct Narrow {
  __m512i sums;
};
inline Narrow narrow_zero() {
  return {_mm512_setzero_si512()};
}
inline Quads splat_quad(const std::int8_t* p) {
  i32 four;
  std::memcpy(&four, p, sizeof four);
  return {_mm512_set1_epi32(four)};
}
inline Narrow step(Narrow sum, Quads w, Quads x) {
  return {_mm512_dpbusd_epi32(sum.sums, w.bits, x.bits)};
}
inline I32 widened(Narrow x) {
  return {x.sums};
}

}  // namespace
