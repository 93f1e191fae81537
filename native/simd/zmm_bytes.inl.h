// SPDX-License-Identifier: Apache-2.0

// Bytes for table lookups, 64 at a time. Included inside the namespace of one instruction set, after
// zmm.inl.h.

// Bytes, also seen as little-endian 16-bit words (even byte low, odd byte high).
constexpr i64 kBytes = 64;
struct Bytes {
  __m512i bits;
};

static inline Bytes zero_bytes() {
  return {_mm512_setzero_si512()};
}
static inline Bytes load_bytes(const void* p) {
  return {_mm512_loadu_si512(p)};
}
static inline void store_bytes(void* p, Bytes x) {
  _mm512_storeu_si512(p, x.bits);
}
// The same 16 bytes in all four quarters, as shuffle tables are.
static inline Bytes load_table(const u8* p) {
  return {_mm512_broadcast_i32x4(load_8_halves(p))};
}
// table[i] for every byte i < 16.
static inline Bytes lookup(Bytes table, Bytes i) {
  return {_mm512_shuffle_epi8(table.bits, i.bits)};
}
static inline Bytes add_bytes(Bytes a, Bytes b) {
  return {_mm512_add_epi8(a.bits, b.bits)};
}
static inline Bytes subtract_bytes(Bytes a, Bytes b) {
  return {_mm512_sub_epi8(a.bits, b.bits)};
}
static inline Bytes add_words(Bytes a, Bytes b) {
  return {_mm512_add_epi16(a.bits, b.bits)};
}
static inline Bytes mask_words(Bytes a, int mask) {
  return {_mm512_and_si512(a.bits, _mm512_set1_epi16(static_cast<short>(mask)))};
}
template <int n>
static inline Bytes words_left(Bytes a) {
  return {_mm512_slli_epi16(a.bits, n)};
}
template <int n>
static inline Bytes words_right(Bytes a) {
  return {_mm512_srli_epi16(a.bits, n)};
}

// As in avx2.h. An emulated vector is no register.
static inline void keep_in_register(Bytes& x) {
#if defined(BITTERN_EMULATE_AVX512)
  (void)x;
#else
  __asm__("" : "+v"(x.bits));
#endif
}

// Bytes of a and b in turn, from the first or from the last eight of each 16.
static inline Bytes interleave_low(Bytes a, Bytes b) {
  return {_mm512_unpacklo_epi8(a.bits, b.bits)};
}
static inline Bytes interleave_high(Bytes a, Bytes b) {
  return {_mm512_unpackhi_epi8(a.bits, b.bits)};
}
// The i-th 16 bytes at out + i * pitch.
static inline void store_sixteens(u8* out, i64 pitch, Bytes x) {
  const __m128i parts[4] = {_mm512_castsi512_si128(x.bits), _mm512_extracti32x4_epi32(x.bits, 1),
                            _mm512_extracti32x4_epi32(x.bits, 2), _mm512_extracti32x4_epi32(x.bits, 3)};
  BITTERN_UNROLL
  for (int i = 0; i < 4; ++i) _mm_storeu_si128(reinterpret_cast<__m128i*>(out + i * pitch), parts[i]);
}
