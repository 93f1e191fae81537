// SPDX-License-Identifier: Apache-2.0

// Numbers of packed nibbles, sixteen at a time. Included inside namespace avx512.

namespace {

constexpr int kFewInputs = 2, kFewRows = 2;  // that are multiplied in registers together

struct Table16 {
  __m512 values;
};
inline Table16 load_table(const float* values) {
  return {_mm512_loadu_ps(values)};
}

// Sixteen words of eight codes.
struct Codes {
  __m512i bits;
};
inline Codes load_codes(const u8* p, i64) {
  return {_mm512_loadu_si512(p)};
}

// Code j of a word; the first element of a byte is in its high half.
constexpr int element_of(DType, int j, int lane) {
  return 8 * lane + (j ^ 1);
}
// A chunk of 8 kLanes numbers in lane order.
inline void order_chunk(DType type, const float* in, float* out) {
  for (int lane = 0; lane < static_cast<int>(kLanes); ++lane) {
    for (int j = 0; j < 8; ++j) out[j * kLanes + lane] = in[element_of(type, j, lane)];
  }
}

// The numbers of code j of each word; vpermps reads the low four bits of an index.
inline F32 numbers(Table16 table, Codes codes, int j) {
  return _mm512_permutexvar_ps(_mm512_srli_epi32(codes.bits, static_cast<unsigned>(4 * j)), table.values);
}

// p[0 .. count) spread evenly over the lanes; count is 1, 2 or 4.
struct Spread {
  explicit Spread(i64 count) : present(static_cast<__mmask16>((1u << count) - 1)) {
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const unsigned shift = count == 1 ? 4 : count == 2 ? 3 : 2;
    index = _mm512_srl_epi32(lanes, _mm_cvtsi32_si128(static_cast<int>(shift)));
  }
  F32 operator()(const float* p) const {
    return _mm512_permutexvar_ps(index, _mm512_maskz_loadu_ps(present, p));
  }
  __m512i index;
  __mmask16 present;
};

// Rounded to nearest even: half of the last place that stays, less one bit where that place is even. NaN
// stays NaN, quiet.
inline F32 through_bf16(F32 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i sum = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const __m512i kept = _mm512_mask_mov_epi32(sum, _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q), quiet);
  return _mm512_castsi512_ps(_mm512_and_si512(kept, _mm512_set1_epi32(-0x10000)));
}
inline F32 through_f16(F32 x) {
  const __m256 low = _mm512_castps512_ps256(x);
  const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1));
  return join(_mm256_cvtph_ps(_mm256_cvtps_ph(low, _MM_FROUND_TO_NEAREST_INT)),
              _mm256_cvtph_ps(_mm256_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT)));
}

constexpr bool kScalesTables = false;  // before numbers are looked up in them
constexpr i64 kAhead = 0;              // no codes are asked for before they are needed

template <DType kType>
struct As {};

inline float sum_of_lanes(F32 x) {
  const __m256 low = _mm512_castps512_ps256(x);
  const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1));
  const __m256 eight = _mm256_add_ps(low, high);
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

}  // namespace
