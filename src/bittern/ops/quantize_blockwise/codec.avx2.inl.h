// SPDX-License-Identifier: Apache-2.0

// Block codecs on AVX2. Included inside namespace avx2, after its simd header.
//
// Tables of 8-bit codes are gathered from the first-level cache, eight entries at a time; what surrounds the
// lookups is done in vectors, without a branch on the sign, which no CPU could foresee. Tables of 16 numbers
// lie in registers.

namespace plain {
#include "codec.inl.h"
}  // namespace plain

namespace {

using plain::inverse_of;

// Eight numbers a vector, four vectors to 32 bytes in order.
inline __m256i narrow_32(const __m256i* words) {
  const __m256i low = _mm256_packus_epi32(words[0], words[1]), high = _mm256_packus_epi32(words[2], words[3]);
  const __m256i order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
  return _mm256_permutevar8x32_epi32(_mm256_packus_epi16(low, high), order);
}

// ---- codes of 8 bits

inline void decode_bytes_of(const float* values, const u8* codes, float absmax, float* out, i64 n) {
  const F32 factor = splat(absmax);
  i64 i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(codes + i));
    const F32 found = _mm256_i32gather_ps(values, _mm256_cvtepu8_epi32(eight), sizeof(float));
    store(out + i, multiply(found, factor));
  }
  for (; i < n; ++i) out[i] = values[codes[i]] * absmax;
}

// Levels of eight magnitudes.
inline __m256i tree_levels(const TreeTables& t, F32 magnitude) {
  const __m256i first = _mm256_set1_epi32(static_cast<int>(kFirstBucket));
  const __m256i above = _mm256_sub_epi32(_mm256_srli_epi32(_mm256_castps_si256(magnitude), 16), first);
  const __m256i bucket = _mm256_max_epi32(above, _mm256_setzero_si256());
  const __m256i four = _mm256_i32gather_epi32(reinterpret_cast<const int*>(t.guess), bucket, 1);
  const __m256i guess = _mm256_and_si256(four, _mm256_set1_epi32(255));
  const Mask below = greater(_mm256_i32gather_ps(t.borders, guess, sizeof(float)), magnitude);
  return _mm256_add_epi32(guess, _mm256_castps_si256(below));
}

template <bool kSigned>
inline __m256i tree_codes(const TreeTables& t, F32 y) {
  const __m256i level = tree_levels(t, absolute(y));
  if (!kSigned) return level;
  const __m256i middle = _mm256_set1_epi32(127), minus = _mm256_castps_si256(greater(splat(0.0f), y));
  const __m256i least = _mm256_min_epi32(level, middle);  // the largest level is positive only
  const __m256i negative = _mm256_sub_epi32(middle, least), positive = _mm256_add_epi32(middle, level);
  return _mm256_blendv_epi8(positive, negative, minus);
}

template <bool kSigned>
inline void encode_tree(const TreeTables& t, const float* x, i64 n, float inverse, u8* codes) {
  const F32 factor = splat(inverse);
  i64 i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    __m256i words[4];
    BITTERN_UNROLL
    for (int j = 0; j < 4; ++j) words[j] = tree_codes<kSigned>(t, multiply(load(x + i + j * kLanes), factor));
    store_bytes(codes + i, {narrow_32(words)});
  }
  for (; i < n; ++i) codes[i] = plain::tree_code(t, x[i] * inverse);
}

// ---- codes of 4 bits

// Eight numbers of four bytes; `values` are the table's, times absmax.
inline F32 decode_8_nibbles(const F32* values, const u8* codes) {
  int bytes = 0;
  std::memcpy(&bytes, codes, sizeof bytes);
  const __m256i places = _mm256_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24);
  const __m256i code = _mm256_srlv_epi32(_mm256_set1_epi32(bytes), places);
  const F32 low = _mm256_permutevar8x32_ps(values[0], code), high = _mm256_permutevar8x32_ps(values[1], code);
  return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(code, 28)));
}

inline void decode_nibbles(const NibbleTables& t, const u8* codes, float absmax, float* out, i64 n) {
  const F32 factor = splat(absmax);
  const F32 values[2] = {multiply(load(t.values), factor), multiply(load(t.values + 8), factor)};
  i64 i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, decode_8_nibbles(values, codes + i / 2));
  plain::decode_nibbles(t, codes + i / 2, absmax, out + i, n - i);
}

// The borders that a search by halves asks for: the second half of the table first, then of each half, ...
struct Halves {
  F32 eighth, fourth, twelfth, twos, odd;
};

inline Halves halves_of(const float* borders) {
  const float* b = borders;
  return {splat(b[8]), splat(b[4]), splat(b[12]), _mm256_setr_ps(b[2], b[6], b[10], b[14], 0, 0, 0, 0),
          _mm256_setr_ps(b[1], b[3], b[5], b[7], b[9], b[11], b[13], b[15])};
}

inline __m256i reached(F32 y, F32 border) {
  return _mm256_castps_si256(_mm256_cmp_ps(y, border, _CMP_GE_OQ));
}
// One bit more at the end of each number, set where `mask` is.
inline __m256i append(__m256i number, __m256i mask) {
  return _mm256_sub_epi32(_mm256_add_epi32(number, number), mask);
}

// How many borders [1 ..] each of eight numbers reaches.
inline __m256i nibble_codes(const Halves& h, F32 y) {
  const __m256i first = reached(y, h.eighth);
  __m256i code = append(_mm256_setzero_si256(), first);
  code = append(code, reached(y, select(_mm256_castsi256_ps(first), h.twelfth, h.fourth)));
  code = append(code, reached(y, _mm256_permutevar8x32_ps(h.twos, code)));
  return append(code, reached(y, _mm256_permutevar8x32_ps(h.odd, code)));
}

// The first of each two goes to the high half of its byte.
inline void encode_nibbles(const NibbleTables& t, const float* x, i64 n, float inverse, u8* codes) {
  const Halves halves = halves_of(t.borders);
  const F32 factor = splat(inverse);
  i64 i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    __m256i words[4];
    BITTERN_UNROLL
    for (int j = 0; j < 4; ++j) words[j] = nibble_codes(halves, multiply(load(x + i + j * kLanes), factor));
    // 16 times the first plus the second
    const __m256i pairs = _mm256_maddubs_epi16(narrow_32(words), _mm256_set1_epi16(0x0110));
    const __m256i bytes = _mm256_packus_epi16(pairs, pairs);
    const __m256i straight = _mm256_permute4x64_epi64(bytes, 0x08);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i / 2), _mm256_castsi256_si128(straight));
  }
  plain::encode_nibbles(t, x + i, n - i, inverse, codes + i / 2);
}

}  // namespace

#include "encode_block.inl.h"

namespace {

inline void decode_block(Code code, const u8* codes, float absmax, float* out, i64 n) {
  if (is_tree8(code)) return decode_bytes_of(tree_tables(code).values, codes, absmax, out, n);
  decode_nibbles(nibble_tables(code), codes, absmax, out, n);
}

// The numbers of any table of bytes: its entries, and the same as four tables of bytes.
inline void decode_table(const float* values, const TreeTables&, const u8* codes, float absmax, float* out,
                         i64 n) {
  decode_bytes_of(values, codes, absmax, out, n);
}

}  // namespace
