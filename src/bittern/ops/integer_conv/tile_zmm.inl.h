// SPDX-License-Identifier: Apache-2.0

// From the sums of a tile, in registers, to int8. Included inside namespace avx512, after finish.inl.h.

#include "nearly_zmm.inl.h"

namespace {

// Sum and factor are each rounded by at most 2^-24 of the product, and the product by as much of itself and
// the zero point, so that one below 2^8 is wrong by less than 4 2^-16.
constexpr i32 kNearlyError = 4;

inline __m512 factors_nearly(const UnitRows& rows, i64 first) {
  return _mm512_castsi512_ps(_mm512_loadu_si512(rows.nearly + first));
}

inline void store_some(i8* to, __m256i bytes, i64 count) {
  if (count == 32) return _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), bytes);
  const __m128i low = _mm256_castsi256_si128(bytes), high = _mm256_extracti128_si256(bytes, 1);
  if (count == 16) return _mm_storeu_si128(reinterpret_cast<__m128i*>(to), low);
  if (count == 24) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), low);
    return _mm_storel_epi64(reinterpret_cast<__m128i*>(to + 16), high);
  }
  if (count == 8) return _mm_storel_epi64(reinterpret_cast<__m128i*>(to), low);
  _mm512_mask_storeu_epi8(to, (u64{1} << count) - 1, _mm512_castsi256_si512(bytes));
}

// The bytes of two pixels of two vectors, or of four of one, from pixel `p` on; `bytes` makes them of the
// numbers of four vectors that `at` gives by pixel and vector.
template <int pixels, int vectors, class At, class Bytes>
BITTERN_INLINE void store_pixels(int p, const At& at, const Bytes& bytes, const Finished& to) {
  constexpr int last = pixels - 1;
  const auto of = [&](int i) {
    const int pixel = p + i / vectors;
    return at(pixel < last ? pixel : last, i % vectors);
  };
  const Lanes a = of(0), b = of(1), c = of(2), d = of(3);
  const __m512i found = bytes(a, b, c, d);
  i8* out = to.out + p * to.step;
  const __m256i low = _mm512_castsi512_si256(found), high = _mm512_extracti64x4_epi64(found, 1);
  store_some(out, low, to.count);
  if constexpr (vectors == 2) {
    if (p < last) store_some(out + to.step, high, to.count);
  } else {
    if (p < last) store_some(out + to.step, _mm256_permute2x128_si256(low, low, 0x11), to.count);
    if (p + 1 < last) store_some(out + 2 * to.step, high, to.count);
    if (p + 2 < last) store_some(out + 3 * to.step, _mm256_permute2x128_si256(high, high, 0x11), to.count);
  }
}

template <int pixels, int vectors, class At, class Bytes>
BITTERN_INLINE void store_tile(const At& at, const Bytes& bytes, const Finished& to) {
  BITTERN_UNROLL
  for (int p = 0; p < pixels; p += 4 / vectors) store_pixels<pixels, vectors>(p, at, bytes, to);
}

template <class Rounded, int pixels, int vectors>
BITTERN_INLINE void finish_tile_exactly(const IntegerConv& c, const UnitRows& rows,
                                        const Dot::Sum (&sums)[pixels][vectors], const Finished& to) {
  Rounded rounded[vectors];
  BITTERN_UNROLL
  for (int v = 0; v < vectors; ++v) {
    rounded[v] = Rounded::of(rows.multiplier + v * kFixedLanes, rows.shift + v * kFixedLanes);
  }
  const Limits limits = limits_of(c.out_zero, c.low, c.high);
  const auto at = [&](int p, int v) { return rounded[v](sums[p][v]); };
  const auto bytes = [&](Lanes a, Lanes b, Lanes third, Lanes d) {
    return limited_bytes(a, b, third, d, limits);
  };
  store_tile<pixels, vectors>(at, bytes, to);
}

template <class Rounded, int pixels, int vectors>
__attribute__((noinline)) void finish_tile_with(const IntegerConv& c, const UnitRows& rows,
                                                const Dot::Sum (&sums)[pixels][vectors], const Finished& to) {
  finish_tile_exactly<Rounded>(c, rows, sums, to);
}

template <int pixels, int vectors>
__attribute__((noinline)) void finish_tile_any(const IntegerConv& c, const UnitRows& rows,
                                               const Dot::Sum (&sums)[pixels][vectors], const Finished& to) {
  for (int v = 0; v < vectors; ++v) {
    const i64 first = v * kIntegerUnit, count = smaller(to.count - first, kIntegerUnit);
    const UnitRows some{rows.bias + first, rows.multiplier + first, rows.shift + first, rows.nearly + first};
    for (int p = 0; p < pixels; ++p) {
      alignas(64) i32 one[kIntegerUnit];
      i8 found[kIntegerUnit];
      Dot::store(one, sums[p][v]);
      finish_any(c, some, one, found);
      copy_some(to.out + p * to.step + first, found, count);
    }
  }
}

// Whether the numbers that it leaves are right for certain.
template <int pixels, int vectors>
BITTERN_INLINE bool finish_tile_nearly(const IntegerConv& c, const UnitRows& rows,
                                       const Dot::Sum (&sums)[pixels][vectors], const Finished& to) {
  const Limits limits = limits_of(c.out_zero, c.low, c.high);
  NearlyEnding ending = nearly_ending(c.out_zero, kNearlyError);
  __m512 factor[vectors];
  BITTERN_UNROLL
  for (int v = 0; v < vectors; ++v) factor[v] = factors_nearly(rows, v * kFixedLanes);
  const auto at = [&](int p, int v) { return times_nearly(sums[p][v], factor[v], ending); };
  const auto bytes = [&](Lanes a, Lanes b, Lanes third, Lanes d) {
    return bytes_nearly(a, b, third, d, limits, ending);
  };
  store_tile<pixels, vectors>(at, bytes, to);
  return are_certain(ending, kNearlyError);
}

// Sums with their biases.
template <int pixels, int vectors>
BITTERN_INLINE void finish_tile(const IntegerConv& c, const UnitRows& rows,
                                const Dot::Sum (&sums)[pixels][vectors], const Finished& to) {
  const auto ending = static_cast<IntegerEnding>(c.ending);
  if (ending == IntegerEnding::rounded_once_near && finish_tile_nearly(c, rows, sums, to)) return;
  if (ending == IntegerEnding::rounded_twice) return finish_tile_exactly<RoundedTwice>(c, rows, sums, to);
  Dot::Sum copied[pixels][vectors];  // an array that a call is given does not stay in registers
  BITTERN_UNROLL
  for (int p = 0; p < pixels; ++p) {
    BITTERN_UNROLL
    for (int v = 0; v < vectors; ++v) copied[p][v] = sums[p][v];
  }
  switch (ending) {
    case IntegerEnding::rounded_once:
    case IntegerEnding::rounded_once_near:
      return finish_tile_with<RoundedOnce>(c, rows, copied, to);
    case IntegerEnding::raised:
      return finish_tile_with<RaisedAndRounded>(c, rows, copied, to);
    default:
      return finish_tile_any(c, rows, copied, to);
  }
}

}  // namespace
