// SPDX-License-Identifier: Apache-2.0

// Block codecs on AVX2. Included inside namespace avx2, after its simd header.
//
// Codes of 8 bits are looked up by plain loads, which AMD's CPUs do faster than a gather, and put together in
// registers: storing them in small pieces to load them whole takes a third longer. What surrounds the lookups
// is done in vectors, without a branch on the sign, which no CPU could foresee. Tables of 16 numbers lie in
// registers.

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

// The words of a table at `place(0)` ... `place(7)`.
template <class T, class Place>
inline __m256i look_up_8(const T* table, Place place) {
  static_assert(sizeof(T) == sizeof(float));
  const float* t = reinterpret_cast<const float*>(table);
  __m128 half[2];
  BITTERN_UNROLL
  for (int i = 0; i < 2; ++i) {
    const __m128 first = _mm_load_ss(t + place(4 * i)), second = _mm_load_ss(t + place(4 * i + 1));
    const __m128 third = _mm_load_ss(t + place(4 * i + 2)), fourth = _mm_load_ss(t + place(4 * i + 3));
    half[i] = _mm_movelh_ps(_mm_unpacklo_ps(first, second), _mm_unpacklo_ps(third, fourth));
  }
  return _mm256_castps_si256(_mm256_set_m128(half[1], half[0]));
}

inline void decode_bytes_of(const float* values, const u8* codes, float absmax, float* out, i64 n) {
  const F32 factor = splat(absmax);
  i64 i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const __m256i found = look_up_8(values, [&](int k) { return codes[i + k]; });
    store(out + i, multiply(_mm256_castsi256_ps(found), factor));
  }
  for (; i < n; ++i) out[i] = values[codes[i]] * absmax;
}

inline u16 bucket_of(const float* y) {
  u16 bucket;
  std::memcpy(&bucket, reinterpret_cast<const char*>(y) + sizeof bucket, sizeof bucket);
  return bucket;
}

inline __m256i finished_codes(bool is_signed, const TreeBuckets& t, const float* numbers) {
  const __m256i y = load_8_words(numbers);
  __m256i lower = _mm256_and_si256(y, _mm256_set1_epi32(0xffff));
  if (is_signed) lower = _mm256_sign_epi32(lower, y);
  const __m256i entry = look_up_8(t.entry, [&](int k) { return bucket_of(numbers + k); });
  return _mm256_srli_epi32(_mm256_add_epi32(entry, lower), 16);
}

template <bool kSigned>
inline void encode_tree(const TreeBuckets& t, const float* x, i64 n, float inverse, u8* codes) {
  const F32 factor = splat(inverse);
  constexpr i64 kWhole = 4 * kLanes, kPass = 128;
  alignas(32) float y[kPass];
  for (i64 i = 0; i < n; i += kPass) {
    const i64 count = smaller(kPass, n - i), whole = count / kWhole * kWhole;
    for (i64 j = 0; j < whole; j += kLanes) store(y + j, multiply(load(x + i + j), factor));
    for (i64 j = 0; j < whole; j += kWhole) {
      __m256i words[4];
      BITTERN_UNROLL
      for (int k = 0; k < 4; ++k) words[k] = finished_codes(kSigned, t, y + j + k * kLanes);
      store_bytes(codes + i + j, {narrow_32(words)});
    }
    for (i64 j = whole; j < count; ++j) {
      y[j] = x[i + j] * inverse;
      const u32 lower = float_bits(y[j]) & 0xffffu;
      codes[i + j] =
          static_cast<u8>((t.entry[bucket_of(y + j)] + (kSigned && y[j] < 0 ? 0u - lower : lower)) >> 16);
    }
  }
}

// ---- codes of 4 bits

// Eight codes of four bytes, in the lowest bits of each lane.
inline __m256i nibbles_8(const u8* codes) {
  int bytes = 0;
  std::memcpy(&bytes, codes, sizeof bytes);
  return _mm256_srlv_epi32(_mm256_set1_epi32(bytes), _mm256_setr_epi32(4, 0, 12, 8, 20, 16, 28, 24));
}

// The entries of a table of 16 numbers for codes in the lowest bits.
inline F32 entries_of(const F32* values, __m256i code) {
  const F32 low = _mm256_permutevar8x32_ps(values[0], code), high = _mm256_permutevar8x32_ps(values[1], code);
  return _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32(code, 28)));
}

inline void decode_nibbles(const NibbleTables& t, const u8* codes, float absmax, float* out, i64 n) {
  const F32 factor = splat(absmax);
  const F32 values[2] = {multiply(load(t.values), factor), multiply(load(t.values + 8), factor)};
  i64 i = 0;
  for (; i + kLanes <= n; i += kLanes) store(out + i, entries_of(values, nibbles_8(codes + i / 2)));
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

// Sixteen bytes of 32 codes; the first of each two goes to the high half of its byte.
inline __m128i join_nibbles(const __m256i* words) {
  // 16 times the first plus the second
  const __m256i pairs = _mm256_maddubs_epi16(narrow_32(words), _mm256_set1_epi16(0x0110));
  const __m256i bytes = _mm256_packus_epi16(pairs, pairs);
  return _mm256_castsi256_si128(_mm256_permute4x64_epi64(bytes, 0x08));
}

inline void pack_nibbles(const i32* code, i64 n, u8* codes) {
  i64 i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    __m256i words[4];
    BITTERN_UNROLL
    for (int j = 0; j < 4; ++j) words[j] = load_8_words(code + i + j * kLanes);
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i / 2), join_nibbles(words));
  }
  plain::pack_nibbles(code + i, n - i, codes + i / 2);
}

inline void encode_nibbles(const NibbleTables& t, const float* x, i64 n, float inverse, u8* codes) {
  const Halves halves = halves_of(t.borders);
  const F32 factor = splat(inverse);
  i64 i = 0;
  for (; i + 4 * kLanes <= n; i += 4 * kLanes) {
    __m256i words[4];
    BITTERN_UNROLL
    for (int j = 0; j < 4; ++j) words[j] = nibble_codes(halves, multiply(load(x + i + j * kLanes), factor));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(codes + i / 2), join_nibbles(words));
  }
  plain::encode_nibbles(t, x + i, n - i, inverse, codes + i / 2);
}

}  // namespace

namespace {

// Codes of n finite numbers whose largest magnitude is `absmax`.
inline void encode_block(Code code, const float* x, i64 n, float absmax, u8* codes) {
  const float inverse = inverse_of(absmax);
  if (code == Code::signed_tree8) return encode_tree<true>(tree_buckets(code), x, n, inverse, codes);
  if (is_tree8(code)) return encode_tree<false>(tree_buckets(code), x, n, inverse, codes);
  encode_nibbles(nibble_tables(code), x, n, inverse, codes);
}

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
