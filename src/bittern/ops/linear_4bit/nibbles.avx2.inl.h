// SPDX-License-Identifier: Apache-2.0

// Numbers of packed nibbles, eight at a time. Included inside namespace avx2.
//
// VPSHUFB looks up bytes: a table of sixteen float32 is four tables of bytes, one register each. Thirty-two
// codes (the low or the high nibbles of 32 bytes) are looked up in all four, and two rounds of interleaving
// put the bytes of each number side by side: twelve shuffles for 32 numbers, two a cycle. (A table of floats
// would be two of eight, looked up by VPERMPS, and a blend: 16 cycles for 32 numbers on a Zen 3.) One call of
// `numbers` asks for one of the four vectors; the compiler finds what the calls for a chunk share.

namespace {

// That are multiplied in registers together. One row, for two leave no registers to keep an input in for
// both.
constexpr int kFewInputs = 4, kFewRows = 1;

struct Table16 {
  __m256i bytes[4];  // byte i of all entries, in both halves
};
inline Table16 load_table(const float* values) {
  const __m128i by_bytes = _mm_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  __m128i four[4];
  BITTERN_UNROLL
  for (int i = 0; i < 4; ++i) four[i] = _mm_shuffle_epi8(load_8_halves(values + 4 * i), by_bytes);
  const __m128i a = _mm_unpacklo_epi32(four[0], four[1]), b = _mm_unpackhi_epi32(four[0], four[1]),
                c = _mm_unpacklo_epi32(four[2], four[3]), d = _mm_unpackhi_epi32(four[2], four[3]);
  return {{_mm256_broadcastsi128_si256(_mm_unpacklo_epi64(a, c)),
           _mm256_broadcastsi128_si256(_mm_unpackhi_epi64(a, c)),
           _mm256_broadcastsi128_si256(_mm_unpacklo_epi64(b, d)),
           _mm256_broadcastsi128_si256(_mm_unpackhi_epi64(b, d))}};
}

// Thirty-two bytes of two codes.
struct Codes {
  __m256i bits;
};
// Asks for the codes that a row of 4096 has below these, as the kernel for pairs of bf16 does.
inline Codes load_codes(const u8* p) {
  constexpr std::uintptr_t kAhead = 2048;
  _mm_prefetch(reinterpret_cast<const char*>(reinterpret_cast<std::uintptr_t>(p) + kAhead), _MM_HINT_T0);
  return {load_8_words(p)};
}

// Vectors 0 to 3 are the low nibbles, 4 to 7 the high ones; each holds four bytes of either half, in turn.
constexpr int element_of(int j, int lane) {
  const int byte = lane / 4 * 16 + j % 4 * 4 + lane % 4;
  return 2 * byte + (j < 4 ? 1 : 0);
}

// The codes that vector j is made of, one a byte.
inline __m256i codes_of(Codes codes, int j) {
  // a shift to the right by 4, for which no shuffle waits
  const __m256i shifted = _mm256_mulhi_epu16(codes.bits, _mm256_set1_epi16(1 << 12));
  return _mm256_and_si256(j < 4 ? codes.bits : shifted, _mm256_set1_epi8(15));
}
// Its part of bytes that are interleaved, and of pairs of bytes.
inline __m256i interleaved_bytes(__m256i a, __m256i b, int j) {
  return j % 4 < 2 ? _mm256_unpacklo_epi8(a, b) : _mm256_unpackhi_epi8(a, b);
}
inline F32 interleaved_pairs(__m256i low, __m256i high, int j) {
  return _mm256_castsi256_ps(j % 2 == 0 ? _mm256_unpacklo_epi16(low, high)
                                        : _mm256_unpackhi_epi16(low, high));
}

// Vector j of the numbers of a chunk.
inline F32 numbers(const Table16& table, Codes codes, int j) {
  const __m256i code = codes_of(codes, j);
  __m256i byte[4];
  BITTERN_UNROLL
  for (int i = 0; i < 4; ++i) byte[i] = _mm256_shuffle_epi8(table.bytes[i], code);
  return interleaved_pairs(interleaved_bytes(byte[0], byte[1], j), interleaved_bytes(byte[2], byte[3], j), j);
}

// p[0 .. count) spread evenly over the lanes; count is 1 or 2.
struct Spread {
  explicit Spread(i64 count) : second(count - 1) {}
  F32 operator()(const float* p) const {
    return _mm256_blend_ps(_mm256_broadcast_ss(p), _mm256_broadcast_ss(p + second), 0xf0);
  }
  i64 second;
};

// Rounded to nearest even: half of the last place that stays, less one bit where that place is even. NaN
// stays NaN, quiet.
inline F32 through_bf16(F32 x) {
  const __m256i bits = _mm256_castps_si256(x);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i sum = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256 kept = _mm256_blendv_ps(_mm256_castsi256_ps(sum), _mm256_castsi256_ps(quiet),
                                       _mm256_cmp_ps(x, x, _CMP_UNORD_Q));
  return _mm256_and_ps(kept, _mm256_castsi256_ps(_mm256_set1_epi32(-0x10000)));
}
inline F32 through_f16(F32 x) {
  return _mm256_cvtph_ps(_mm256_cvtps_ph(x, _MM_FROUND_TO_NEAREST_INT));
}

// A table times the scales of a chunk, rounded to bf16: sixteen roundings instead of sixty-four, and two
// bytes to look up, for the lower half of a float32 is 0.
constexpr bool kScalesTables = true;
struct TableBf16 {
  __m256i bytes[2];  // the third and the fourth of all entries, of either half
};
inline TableBf16 scaled_table(const float* values, F32 scales) {
  const __m256i upper_bytes = _mm256_set1_epi64x(0x0f0b07030e0a0602);
  __m256i four[4];  // entries 4 i to 4 i + 3: their third bytes, then their fourth
  BITTERN_UNROLL
  for (int i = 0; i < 4; ++i) {
    const F32 entries = _mm256_broadcast_ps(reinterpret_cast<const __m128*>(values + 4 * i));
    const F32 rounded = through_bf16(_mm256_mul_ps(entries, scales));
    four[i] = _mm256_shuffle_epi8(_mm256_castps_si256(rounded), upper_bytes);
  }
  const __m256i first = _mm256_unpacklo_epi32(four[0], four[1]),
                second = _mm256_unpacklo_epi32(four[2], four[3]);
  return {{_mm256_unpacklo_epi64(first, second), _mm256_unpackhi_epi64(first, second)}};
}
inline F32 numbers(const TableBf16& table, Codes codes, int j) {
  const __m256i code = codes_of(codes, j);
  const __m256i third = _mm256_shuffle_epi8(table.bytes[0], code),
                fourth = _mm256_shuffle_epi8(table.bytes[1], code);
  return interleaved_pairs(_mm256_setzero_si256(), interleaved_bytes(third, fourth, j), j);
}

inline float sum_of_lanes(F32 x) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

}  // namespace
