// SPDX-License-Identifier: Apache-2.0

// Sixteen lanes of 32 bits for the element-wise parts, which need AVX-512 F and DQ only. Included inside the
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
