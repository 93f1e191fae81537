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
// Asks for the codes `ahead` bytes behind these: where rows follow each other, those that a row of 4096 has
// below, as the kernel for pairs of bf16 does.
constexpr i64 kAhead = 2048;
inline Codes load_codes(const u8* p, i64 ahead) {
  const std::uintptr_t behind = reinterpret_cast<std::uintptr_t>(p) + static_cast<std::uintptr_t>(ahead);
  _mm_prefetch(reinterpret_cast<const char*>(behind), _MM_HINT_T0);
  return {load_8_words(p)};
}

// Vectors 0 to 3 are the low nibbles, 4 to 7 the high ones; each holds four bytes of either half, in turn.
// Numbers of bf16 are made two in a word, of neighbouring bytes.
constexpr int element_of(DType type, int j, int lane) {
  const int four = type == DType::bf16 ? j % 4 / 2 * 8 + lane % 4 * 2 + j % 2 : j % 4 * 4 + lane % 4;
  return 2 * (lane / 4 * 16 + four) + (j < 4 ? 1 : 0);
}
// The four floats at p in the lower half, those of the upper 32 elements in the other.
inline __m256 load_halves(const float* p) {
  return _mm256_insertf128_ps(_mm256_castps128_ps256(_mm_loadu_ps(p)), _mm_loadu_ps(p + 32), 1);
}
// A chunk of numbers in lane order.
inline void order_chunk(DType type, const float* in, float* out) {
  if (type != DType::bf16) {  // even elements, odd ones
    BITTERN_UNROLL
    for (int j = 0; j < 4; ++j) {
      const __m256 first = load_halves(in + 8 * j), second = load_halves(in + 8 * j + 4);
      _mm256_storeu_ps(out + 8 * j, _mm256_shuffle_ps(first, second, 0xdd));
      _mm256_storeu_ps(out + 8 * (j + 4), _mm256_shuffle_ps(first, second, 0x88));
    }
    return;
  }
  BITTERN_UNROLL
  for (int i = 0; i < 2; ++i) {  // every fourth of sixteen
    const float* p = in + 16 * i;
    const __m256 a = load_halves(p), b = load_halves(p + 4), c = load_halves(p + 8), d = load_halves(p + 12);
    const __m256 ab = _mm256_unpacklo_ps(a, b), cd = _mm256_unpacklo_ps(c, d),
                 ab_high = _mm256_unpackhi_ps(a, b), cd_high = _mm256_unpackhi_ps(c, d);
    float* even = out + 8 * (4 + 2 * i);
    float* odd = out + 8 * (2 * i);
    _mm256_storeu_ps(even, _mm256_shuffle_ps(ab, cd, 0x44));
    _mm256_storeu_ps(odd, _mm256_shuffle_ps(ab, cd, 0xee));
    _mm256_storeu_ps(even + 8, _mm256_shuffle_ps(ab_high, cd_high, 0x44));
    _mm256_storeu_ps(odd + 8, _mm256_shuffle_ps(ab_high, cd_high, 0xee));
  }
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
    if (second == 0) return _mm256_broadcast_ss(p);
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

// ---- tables of 16-bit numbers: the entries times the scale of a chunk, rounded. That is sixteen roundings
// instead of sixty-four, and fewer bytes to look up, for the lowest of such a float32 are 0.

constexpr bool kScalesTables = true;

template <DType kType>
struct As {};
using AsBf16 = As<DType::bf16>;
using AsF16 = As<DType::f16>;

// A table's entries as they are multiplied: eight in a vector for one scale, four in both halves for two.
struct Entries {
  alignas(32) float values[16];
};
inline F32 eight_entries(const Entries& e, int i) {
  return _mm256_load_ps(e.values + 8 * i);
}
inline F32 four_entries(const Entries& e, int i) {
  return _mm256_broadcast_ps(reinterpret_cast<const __m128*>(e.values + 4 * i));
}

// The quarters of two vectors that hold bytes in the order of entries 0 to 7 and, in the other half, 8 to 15.
inline __m256i first_quarters(__m256i x) {
  return _mm256_permute4x64_epi64(x, 0x88);
}
inline __m256i second_quarters(__m256i x) {
  return _mm256_permute4x64_epi64(x, 0xdd);
}

struct TableBf16 {
  __m256i bytes[2];  // the third and the fourth of all entries, in either half
};
// Even entries before odd ones.
inline Entries entries_of(const float* values, AsBf16) {
  Entries entries;
  for (int i = 0; i < 16; ++i) entries.values[i % 2 * 8 + i / 2] = values[i];
  return entries;
}
// Products whose upper half is rounded to nearest even; the lower one is left as it is. A NaN must be one
// that rounding leaves a NaN (quiet_scales).
inline __m256i rounded_upper(F32 entries, F32 scales) {
  const __m256i bits = _mm256_castps_si256(_mm256_mul_ps(entries, scales));
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  return _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
}
// Eight of bf16 in each half, of even and of odd entries: their lower bytes, then their upper ones.
inline __m256i bytes_apart(__m256i even, __m256i odd) {
  const __m256i both = _mm256_blend_epi16(_mm256_srli_epi32(even, 16), odd, 0xaa);
  const __m256i order =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(0, 2, 4, 6, 8, 10, 12, 14, 1, 3, 5, 7, 9, 11, 13, 15));
  return _mm256_shuffle_epi8(both, order);
}
BITTERN_INLINE TableBf16 scaled_table(const Entries& e, F32 scales, bool one_scale, AsBf16) {
  if (one_scale) {
    const __m256i all =
        bytes_apart(rounded_upper(eight_entries(e, 0), scales), rounded_upper(eight_entries(e, 1), scales));
    return {{first_quarters(all), second_quarters(all)}};
  }
  const __m256i low =
      bytes_apart(rounded_upper(four_entries(e, 0), scales), rounded_upper(four_entries(e, 2), scales));
  const __m256i high =
      bytes_apart(rounded_upper(four_entries(e, 1), scales), rounded_upper(four_entries(e, 3), scales));
  return {{_mm256_unpacklo_epi64(low, high), _mm256_unpackhi_epi64(low, high)}};
}
inline F32 numbers(const TableBf16& table, Codes codes, int j) {
  const __m256i code = codes_of(codes, j);
  const __m256i third = _mm256_shuffle_epi8(table.bytes[0], code),
                fourth = _mm256_shuffle_epi8(table.bytes[1], code);
  const __m256i pairs = interleaved_bytes(third, fourth, j);
  return _mm256_castsi256_ps(j % 2 == 0 ? _mm256_slli_epi32(pairs, 16)
                                        : _mm256_and_si256(pairs, _mm256_set1_epi32(-0x10000)));
}

struct TableF16 {
  __m256i bytes[3];  // the second to the fourth of all entries, in either half
};
// Entries 0 to 3, 8 to 11, 4 to 7, 12 to 15.
inline Entries entries_of(const float* values, AsF16) {
  Entries entries;
  for (int i = 0; i < 16; ++i) entries.values[i / 4 % 2 * 8 + i / 8 * 4 + i % 4] = values[i];
  return entries;
}
// In each half the second bytes of four float32, their third, their fourth.
inline __m256i upper_bytes(F32 entries, F32 scales) {
  const __m256i order =
      _mm256_broadcastsi128_si256(_mm_setr_epi8(1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15, 0, 0, 0, 0));
  return _mm256_shuffle_epi8(_mm256_castps_si256(through_f16(_mm256_mul_ps(entries, scales))), order);
}
BITTERN_INLINE TableF16 scaled_table(const Entries& e, F32 scales, bool one_scale, AsF16) {
  if (one_scale) {
    const __m256i a = upper_bytes(eight_entries(e, 0), scales), b = upper_bytes(eight_entries(e, 1), scales);
    const __m256i low = _mm256_unpacklo_epi32(a, b), high = _mm256_unpackhi_epi32(a, b);
    return {{first_quarters(low), second_quarters(low), first_quarters(high)}};
  }
  const __m256i a = upper_bytes(four_entries(e, 0), scales), b = upper_bytes(four_entries(e, 2), scales),
                c = upper_bytes(four_entries(e, 1), scales), d = upper_bytes(four_entries(e, 3), scales);
  const __m256i first = _mm256_unpacklo_epi32(a, b), second = _mm256_unpacklo_epi32(c, d);
  return {{_mm256_unpacklo_epi64(first, second), _mm256_unpackhi_epi64(first, second),
           _mm256_unpacklo_epi64(_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d))}};
}
inline F32 numbers(const TableF16& table, Codes codes, int j) {
  const __m256i code = codes_of(codes, j);
  __m256i byte[3];
  BITTERN_UNROLL
  for (int i = 0; i < 3; ++i) byte[i] = _mm256_shuffle_epi8(table.bytes[i], code);
  return interleaved_pairs(interleaved_bytes(_mm256_setzero_si256(), byte[0], j),
                           interleaved_bytes(byte[1], byte[2], j), j);
}

inline float sum_of_lanes(F32 x) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

}  // namespace
