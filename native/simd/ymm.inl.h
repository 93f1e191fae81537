// SPDX-License-Identifier: Apache-2.0

// Operations on 256-bit registers that the AVX2 and the AVX-512 kernels share. Included inside the namespace
// of one instruction set, so that each gets its own copy, compiled with its own flags.

static inline float widen(bf16 x) {
  return _mm_cvtss_f32(_mm_castsi128_ps(_mm_cvtsi32_si128(x.bits << 16)));
}
static inline float widen(f16 x) {
  return _cvtsh_ss(x.bits);
}
// Rounds to nearest, ties to even.
static inline f16 narrow(float x) {
  return {static_cast<u16>(_cvtss_sh(x, _MM_FROUND_TO_NEAREST_INT))};
}
static inline float widen(float x) {
  return x;
}
static inline double widen(double x) {
  return x;
}
static inline i32 widen(i32 x) {
  return x;
}

static inline __m256i load_8_words(const void* p) {
  return _mm256_loadu_si256(static_cast<const __m256i*>(p));
}
static inline __m128i load_8_halves(const void* p) {
  return _mm_loadu_si128(static_cast<const __m128i*>(p));
}

static inline __m256 widen_8(const f16* p) {
  return _mm256_cvtph_ps(load_8_halves(p));
}
static inline __m256 widen_8(const bf16* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(load_8_halves(p)), 16));
}

// Of 64 bytes and 8 words: bit i of word j is bit j of byte i.
static inline void turn_bits(const u8* bytes, u64* words) {
  __m256i low = load_8_words(bytes), high = load_8_words(bytes + 32);
  BITTERN_UNROLL
  for (int j = 7; j >= 0; --j) {  // the highest bits of all bytes, which adding a byte to itself brings up
    const u32 first = static_cast<u32>(_mm256_movemask_epi8(low));
    words[j] = u64{static_cast<u32>(_mm256_movemask_epi8(high))} << 32 | first;
    low = _mm256_add_epi8(low, low);
    high = _mm256_add_epi8(high, high);
  }
}
