// SPDX-License-Identifier: Apache-2.0

// Pairs of products at 16 bits, eight at a time (VPMADDWD). VPMADDUBSW would take twice as many bytes,
// but saturates. Included inside namespace avx2.

namespace {

struct Dot {
  using Number = i16;  // of an image, zero point taken off
  using Weight = i16;  // as tiles take them; they are stored as bytes
  using Sum = __m256i;
  static constexpr int kPack = 2;
  static constexpr i64 kLanes = 8;
  static i32 centre(i64 zero) { return static_cast<i32>(-zero); }  // what is added to each number of an image
  static Sum zero() { return _mm256_setzero_si256(); }
  static Sum load(const i32* p) { return load_8_words(p); }
  static __m256i weights(const Weight* p) { return load_8_words(p); }
  static __m256i weights(const i8* p) { return _mm256_cvtepi8_epi16(load_8_halves(p)); }
  static __m256i spread(const Number* p) {
    i32 pair;
    std::memcpy(&pair, p, sizeof pair);
    return _mm256_set1_epi32(pair);
  }
  static Sum step(Sum sum, __m256i w, __m256i x) { return _mm256_add_epi32(sum, _mm256_madd_epi16(w, x)); }
  static void store(i32* to, Sum sum) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), sum); }
};

}  // namespace
