// SPDX-License-Identifier: Apache-2.0

// Sixteen lanes of 32 bits, and eight words of 64, which need AVX-512 F, DQ and BW only. Included inside the
// namespace of one instruction set, after ymm.inl.h, so that each gets its own copy, compiled with its own
// flags.

constexpr i64 kLanes = 16;
constexpr int kRegisters = 32;
using F32 = __m512;
struct F64 {
  __m512d low, high;
};
struct I32 {
  __m512i bits;
};

static inline __m512 join(__m256 low, __m256 high) {
  const __m512i joined =
      _mm512_inserti64x4(_mm512_castsi256_si512(_mm256_castps_si256(low)), _mm256_castps_si256(high), 1);
  return _mm512_castsi512_ps(joined);
}

static inline F32 load(const float* p) {
  return _mm512_loadu_ps(p);
}
static inline F32 load(const f16* p) {
  return join(widen_8(p), widen_8(p + 8));
}
static inline F32 load(const bf16* p) {
  return join(widen_8(p), widen_8(p + 8));
}
static inline F64 load(const double* p) {
  return {_mm512_loadu_pd(p), _mm512_loadu_pd(p + 8)};
}
static inline I32 load(const i32* p) {
  return {_mm512_loadu_si512(p)};
}
static inline void store(float* p, F32 x) {
  _mm512_storeu_ps(p, x);
}
static inline void store(i32* p, I32 x) {
  _mm512_storeu_si512(p, x.bits);
}

static inline F32 splat(float x) {
  return _mm512_set1_ps(x);
}
static inline F64 splat(double x) {
  return {_mm512_set1_pd(x), _mm512_set1_pd(x)};
}
static inline I32 splat(i32 x) {
  return {_mm512_set1_epi32(x)};
}

// Bit i says whether lane i of x >= t; false for NaN.
static inline u32 at_least(F32 x, F32 t) {
  return _mm512_cmp_ps_mask(x, t, _CMP_GE_OQ);
}
static inline u32 at_least(F64 x, F64 t) {
  const u32 low = _mm512_cmp_pd_mask(x.low, t.low, _CMP_GE_OQ);
  const u32 high = _mm512_cmp_pd_mask(x.high, t.high, _CMP_GE_OQ);
  return low | high << 8;
}
static inline u32 at_least(I32 x, I32 t) {
  return 0xffffu ^ _mm512_cmpgt_epi32_mask(t.bits, x.bits);
}

static inline F32 add(F32 a, F32 b) {
  return _mm512_add_ps(a, b);
}
// a * b + c, rounded once.
static inline F32 multiply_add(F32 a, F32 b, F32 c) {
  return _mm512_fmadd_ps(a, b, c);
}
static inline F32 multiply(F32 a, F32 b) {
  return _mm512_mul_ps(a, b);
}
static inline I32 add(I32 a, I32 b) {
  return {_mm512_add_epi32(a.bits, b.bits)};
}
static inline I32 subtract(I32 a, I32 b) {
  return {_mm512_sub_epi32(a.bits, b.bits)};
}
static inline F32 to_float(I32 x) {
  return _mm512_cvtepi32_ps(x.bits);
}

static inline F32 subtract(F32 a, F32 b) {
  return _mm512_sub_ps(a, b);
}
static inline F32 divide(F32 a, F32 b) {
  return _mm512_div_ps(a, b);
}
static inline F32 square_root(F32 x) {
  return _mm512_sqrt_ps(x);
}
static inline F32 absolute(F32 x) {
  return _mm512_abs_ps(x);
}
// a > b ? a : b
static inline F32 maximum(F32 a, F32 b) {
  return _mm512_max_ps(a, b);
}
// c - a * b, rounded once.
static inline F32 subtract_product(F32 c, F32 a, F32 b) {
  return _mm512_fnmadd_ps(a, b, c);
}

using Mask = __mmask16;
static inline Mask greater(F32 a, F32 b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_GT_OQ);
}
static inline Mask equal(F32 a, F32 b) {
  return _mm512_cmp_ps_mask(a, b, _CMP_EQ_OQ);
}
// Lanes that are infinite or NaN.
static inline Mask not_finite(F32 x) {
  return _mm512_cmp_ps_mask(_mm512_abs_ps(x), _mm512_set1_ps(3.40282347e38f), _CMP_NLE_UQ);
}
static inline Mask either(Mask a, Mask b) {
  return static_cast<Mask>(a | b);
}
static inline bool any(Mask m) {
  return m != 0;
}
static inline F32 select(Mask m, F32 yes, F32 no) {
  return _mm512_mask_blend_ps(m, no, yes);
}
static inline float largest_lane(F32 x) {
  return _mm512_reduce_max_ps(x);
}

// Lanes of 32 bits as what else they stand for, and whole numbers.
static inline I32 to_bits(F32 x) {
  return {_mm512_castps_si512(x)};
}
static inline F32 from_bits(I32 x) {
  return _mm512_castsi512_ps(x.bits);
}
static inline I32 ascending(i32 first) {
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  return {_mm512_add_epi32(_mm512_set1_epi32(first), lanes)};
}
static inline I32 exclusive_or(I32 a, I32 b) {
  return {_mm512_xor_si512(a.bits, b.bits)};
}
static inline I32 both(I32 a, I32 b) {
  return {_mm512_and_si512(a.bits, b.bits)};
}
// Modulo 2^32.
static inline I32 multiply(I32 a, I32 b) {
  return {_mm512_mullo_epi32(a.bits, b.bits)};
}
static inline I32 add_wrapped(I32 a, I32 b) {
  return add(a, b);
}
// Fills with 0.
template <int n>
static inline I32 shift_right(I32 x) {
  return {_mm512_srli_epi32(x.bits, n)};
}
static inline I32 minimum(I32 a, I32 b) {
  return {_mm512_min_epi32(a.bits, b.bits)};
}
static inline I32 maximum(I32 a, I32 b) {
  return {_mm512_max_epi32(a.bits, b.bits)};
}
static inline Mask greater(I32 a, I32 b) {
  return _mm512_cmpgt_epi32_mask(a.bits, b.bits);
}
static inline I32 select(Mask m, I32 yes, I32 no) {
  return {_mm512_mask_blend_epi32(m, no.bits, yes.bits)};
}
// a < b ? a : b
static inline F32 minimum(F32 a, F32 b) {
  return _mm512_min_ps(a, b);
}
static inline F32 floor_of(F32 x) {
  return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);
}
// Of whole numbers below 2^31.
static inline I32 to_int(F32 x) {
  return {_mm512_cvtps_epi32(x)};
}
// Sixteen unsigned 16-bit numbers, widened.
static inline I32 load(const u16* p) {
  return {_mm512_cvtepu16_epi32(load_8_words(p))};
}
static inline void store_halves(u16* p, I32 x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi32_epi16(x.bits));
}
static inline void store(f16* p, F32 x) {
  const __m256 high = _mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1));
  __m128i* out = reinterpret_cast<__m128i*>(p);
  _mm_storeu_si128(out, _mm256_cvtps_ph(_mm512_castps512_ps256(x), _MM_FROUND_TO_NEAREST_INT));
  _mm_storeu_si128(out + 1, _mm256_cvtps_ph(high, _MM_FROUND_TO_NEAREST_INT));
}

// Eight words of 64 bits.
constexpr i64 kWords = 8;
struct Words {
  __m512i bits;
};

static inline Words zero_words() {
  return {_mm512_setzero_si512()};
}
static inline Words load_words(const u64* p) {
  return {_mm512_loadu_si512(p)};
}
static inline void store_words(u64* p, Words x) {
  _mm512_storeu_si512(p, x.bits);
}
static inline Words splat_word(u64 x) {
  return {_mm512_set1_epi64(static_cast<long long>(x))};
}
static inline Words xor_words(Words a, Words b) {
  return {_mm512_xor_si512(a.bits, b.bits)};
}
static inline Words and_words(Words a, Words b) {
  return {_mm512_and_si512(a.bits, b.bits)};
}
static inline Words or_words(Words a, Words b) {
  return {_mm512_or_si512(a.bits, b.bits)};
}
// Bit by bit, the value that two or three of a, b and c have.
static inline Words majority(Words a, Words b, Words c) {
  return {_mm512_ternarylogic_epi64(a.bits, b.bits, c.bits, 0xe8)};
}
// Bit by bit, a + b + c = sum + 2 * carry.
static inline void add_bits(Words a, Words b, Words c, Words& sum, Words& carry) {
  carry = majority(a, b, c);
  sum = {_mm512_ternarylogic_epi64(a.bits, b.bits, c.bits, 0x96)};
}

// The bytes of four vectors side by side: byte i of p0, of p1, of p2, of p3 at out + 4 * i.
static inline void store_planes(u8* out, Words p0, Words p1, Words p2, Words p3) {
  const __m512i a = _mm512_unpacklo_epi8(p0.bits, p1.bits), b = _mm512_unpackhi_epi8(p0.bits, p1.bits),
                c = _mm512_unpacklo_epi8(p2.bits, p3.bits), d = _mm512_unpackhi_epi8(p2.bits, p3.bits);
  // quarter j of each of these belongs to bytes 16 j and following
  const __m512i q0 = _mm512_unpacklo_epi16(a, c), q1 = _mm512_unpackhi_epi16(a, c),
                q2 = _mm512_unpacklo_epi16(b, d), q3 = _mm512_unpackhi_epi16(b, d);
  const __m512i even01 = _mm512_shuffle_i32x4(q0, q1, 0x88), odd01 = _mm512_shuffle_i32x4(q0, q1, 0xdd),
                even23 = _mm512_shuffle_i32x4(q2, q3, 0x88), odd23 = _mm512_shuffle_i32x4(q2, q3, 0xdd);
  _mm512_storeu_si512(out, _mm512_shuffle_i32x4(even01, even23, 0x88));
  _mm512_storeu_si512(out + 64, _mm512_shuffle_i32x4(odd01, odd23, 0x88));
  _mm512_storeu_si512(out + 128, _mm512_shuffle_i32x4(even01, even23, 0xdd));
  _mm512_storeu_si512(out + 192, _mm512_shuffle_i32x4(odd01, odd23, 0xdd));
}
// Lane i of vector j: `weight` times the number of channel c = j * kLanes + i, whose bits, lowest first, are
// bits c % 8 of the four bytes at planes + c / 8 * 4.
template <int weight>
static inline I32 sum_planes(const u8* planes, int j) {
  const __m512i half = _mm512_setr_epi32(0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7);
  const __m128i eight = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(planes + 8 * j));
  const __m512i bytes = _mm512_permutexvar_epi32(half, _mm512_castsi128_si512(eight));
  const __m512i bits = _mm512_and_si512(_mm512_srlv_epi32(bytes, lanes), _mm512_set1_epi8(1));
  const __m512i pairs = _mm512_maddubs_epi16(bits, _mm512_set1_epi32(0x08040201));
  return {_mm512_madd_epi16(pairs, _mm512_set1_epi16(weight))};
}
