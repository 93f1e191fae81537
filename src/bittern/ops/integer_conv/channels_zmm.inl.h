// SPDX-License-Identifier: Apache-2.0

// Each channel by itself: sums of 64 numbers of a row over their taps. Included inside namespace avx512,
// after tile_zmm.inl.h and frame.inl.h.
//
// Four taps of a number become four bytes side by side, which one product (VPDPBUSD) sums: their vectors are
// interleaved, bytes and then pairs, within each 128 bits, where packing the sums again leaves the numbers in
// order. Of 64 numbers a quarter thus has those 4 q + 0 .. 3 of each 16. Numbers go along a row whatever its
// pixels where windows move by one pixel, and the weights of a few vectors come again after some pixels
// (`channel_period`); else by pixels, and the last vector of one may be partly empty.

namespace {

constexpr int kQuarters = 4;
constexpr i64 kQuarter = kChannelVector / kQuarters;

// Number of a vector that stands at `lane` of a quarter.
constexpr i64 number_at(i64 quarter, i64 lane) {
  return lane / 4 * kQuarter + quarter * 4 + lane % 4;
}

struct ChannelPlan {
  const IntegerConv* c;
  Framed size;
  const i64* offsets;    // of each tap, and of none, up to a multiple of four
  i64 fours, period;     // fours: of taps
  i64 band_rows, bands;  // of an image
  i64 vectors, last;     // of a row, or of a pixel; numbers of the last one
};

// Four taps of 64 numbers as quarters of four bytes a number.
struct Taps {
  __m512i quarter[kQuarters];
};

BITTERN_INLINE Taps interleaved(__m512i a, __m512i b, __m512i c, __m512i d) {
  const __m512i low_ab = _mm512_unpacklo_epi8(a, b), high_ab = _mm512_unpackhi_epi8(a, b),
                low_cd = _mm512_unpacklo_epi8(c, d), high_cd = _mm512_unpackhi_epi8(c, d);
  return {{_mm512_unpacklo_epi16(low_ab, low_cd), _mm512_unpackhi_epi16(low_ab, low_cd),
           _mm512_unpacklo_epi16(high_ab, high_cd), _mm512_unpackhi_epi16(high_ab, high_cd)}};
}

// The sums of 64 numbers from x on, with their biases.
BITTERN_INLINE void sum_channels(const u8* x, const i64* offsets, i64 fours, const i8* w, const i32* bias,
                                 Lanes (&sums)[1][kQuarters]) {
  BITTERN_UNROLL
  for (int q = 0; q < kQuarters; ++q) sums[0][q] = _mm512_loadu_si512(bias + q * kQuarter);
  for (i64 four = 0; four < fours; ++four, offsets += 4, w += 4 * kChannelVector) {
    const Taps taps = interleaved(_mm512_loadu_si512(x + offsets[0]), _mm512_loadu_si512(x + offsets[1]),
                                  _mm512_loadu_si512(x + offsets[2]), _mm512_loadu_si512(x + offsets[3]));
    BITTERN_UNROLL
    for (int q = 0; q < kQuarters; ++q) {
      sums[0][q] =
          _mm512_dpbusd_epi32(sums[0][q], taps.quarter[q], _mm512_loadu_si512(w + q * kChannelVector));
    }
  }
}

template <class Rounded>
void round_channels(const UnitRows& rows, const Lanes (&sums)[1][kQuarters], Lanes (&y)[1][kQuarters]) {
  for (int q = 0; q < kQuarters; ++q) {
    y[0][q] = Rounded::of(rows.multiplier + q * kQuarter, rows.shift + q * kQuarter)(sums[0][q]);
  }
}

// What no vector of factors takes.
__attribute__((noinline)) __m512i channels_any(const IntegerConv& c, const UnitRows& rows,
                                               const Lanes (&sums)[1][kQuarters]) {
  alignas(64) i8 found[kChannelVector];
  for (int q = 0; q < kQuarters; ++q) {
    const i64 first = q * kQuarter;
    const UnitRows some{rows.bias + first, rows.multiplier + first, rows.shift + first, rows.nearly + first};
    alignas(64) i32 one[kIntegerUnit];
    i8 finished[kIntegerUnit];
    Dot::store(one, sums[0][q]);
    finish_any(c, some, one, finished);
    for (i64 i = 0; i < kIntegerUnit; ++i) found[number_at(q, i)] = finished[i];
  }
  return _mm512_loadu_si512(found);
}

__attribute__((noinline)) __m512i channels_exactly(const IntegerConv& c, const UnitRows& rows,
                                                   const Lanes (&sums)[1][kQuarters]) {
  Lanes y[1][kQuarters];
  switch (static_cast<IntegerEnding>(c.ending)) {
    case IntegerEnding::rounded_once:
    case IntegerEnding::rounded_once_near:
      round_channels<RoundedOnce>(rows, sums, y);
      break;
    case IntegerEnding::rounded_twice:
      round_channels<RoundedTwice>(rows, sums, y);
      break;
    case IntegerEnding::raised:
      round_channels<RaisedAndRounded>(rows, sums, y);
      break;
    default:
      return channels_any(c, rows, sums);
  }
  return limited_fours(y[0][0], y[0][1], y[0][2], y[0][3], limits_of(c.out_zero, c.low, c.high));
}

// Upper words of a and b, four of each 128 bits of one and then of the other.
inline __m512i upper_words_of_fours() {
  return _mm512_setr_epi32(0x30001, 0x70005, 0x230021, 0x270025, 0xb0009, 0xf000d, 0x2b0029, 0x2f002d,
                           0x130011, 0x170015, 0x330031, 0x370035, 0x1b0019, 0x1f001d, 0x3b0039, 0x3f003d);
}

// How the sums of a layer end, the same for all of its vectors.
struct ChannelEnding {
  Limits limits;
  NearlyEnding start;
  bool nearly, twice;
};

inline ChannelEnding channel_ending(const IntegerConv& c) {
  return {limits_of(c.out_zero, c.low, c.high), nearly_ending(c.out_zero, kNearlyError),
          c.ending == static_cast<i64>(IntegerEnding::rounded_once_near),
          c.ending == static_cast<i64>(IntegerEnding::rounded_twice)};
}

// Factors of a vector, for those that round twice.
struct ChannelFactors {
  RoundedTwice quarter[kQuarters];
};

inline ChannelFactors channel_factors(const UnitRows& rows) {
  ChannelFactors found;
  for (int q = 0; q < kQuarters; ++q) {
    found.quarter[q] = RoundedTwice::of(rows.multiplier + q * kQuarter, rows.shift + q * kQuarter);
  }
  return found;
}

BITTERN_INLINE __m512i channels_twice(const ChannelFactors& f, const Limits& limits,
                                      const Lanes (&sums)[1][kQuarters]) {
  return limited_fours(f.quarter[0](sums[0][0]), f.quarter[1](sums[0][1]), f.quarter[2](sums[0][2]),
                       f.quarter[3](sums[0][3]), limits);
}

BITTERN_INLINE __m512i channels_nearly(const UnitRows& rows, const Limits& limits,
                                       const Lanes (&sums)[1][kQuarters], NearlyEnding& ending) {
  const __m512i upper = upper_words_of_fours();
  Lanes y[kQuarters];
  BITTERN_UNROLL
  for (int q = 0; q < kQuarters; ++q) {
    y[q] = times_nearly(sums[0][q], factors_nearly(rows, q * kQuarter), ending);
  }
  return between_limits(
      _mm512_packs_epi16(whole_words(y[0], y[1], upper, ending), whole_words(y[2], y[3], upper, ending)),
      limits);
}

BITTERN_INLINE __m512i channels_for_certain(const IntegerConv& c, const UnitRows& rows,
                                            const Lanes (&sums)[1][kQuarters]) {
  Lanes copied[1][kQuarters];  // an array that a call is given does not stay in registers
  BITTERN_UNROLL
  for (int q = 0; q < kQuarters; ++q) copied[0][q] = sums[0][q];
  return channels_exactly(c, rows, copied);
}

inline void store_channels(i8* out, __m512i numbers, i64 count) {
  if (count == kChannelVector) return _mm512_storeu_si512(out, numbers);
  if (count <= 32) return store_some(out, _mm512_castsi512_si256(numbers), count);
  _mm512_mask_storeu_epi8(out, (u64{1} << count) - 1, numbers);
}

// `count` vectors, x_step and out_step numbers apart, the first of them with the weights of `index`, the next
// ones with those behind, of which there are `period`.
void channel_vectors(const ChannelPlan& plan, const u8* x, i64 x_step, i8* out, i64 out_step, i64 count,
                     i64 last, i64 index, i64 period) {
  const IntegerConv& c = *plan.c;
  const i64 weights = plan.fours * 4 * kChannelVector;
  const ChannelEnding how = channel_ending(c);
  for (i64 i = 0; i < count; ++i, x += x_step, out += out_step) {
    const UnitRows rows = rows_of(c, index * kChannelVector);
    Lanes sums[1][kQuarters];
    sum_channels(x, plan.offsets, plan.fours, static_cast<const i8*>(c.weights) + index * weights, rows.bias,
                 sums);
    const i64 numbers = i + 1 < count ? kChannelVector : last;
    NearlyEnding ending = how.start;
    if (how.twice) {
      store_channels(out, channels_twice(channel_factors(rows), how.limits, sums), numbers);
      if (++index == period) index = 0;
      continue;
    }
    if (how.nearly) store_channels(out, channels_nearly(rows, how.limits, sums, ending), numbers);
    if (!how.nearly || !are_certain(ending, kNearlyError)) {
      store_channels(out, channels_for_certain(c, rows, sums), numbers);
    }
    if (++index == period) index = 0;
  }
}

void channel_row(const ChannelPlan& plan, const u8* x, i8* out) {
  const IntegerConv& c = *plan.c;
  if (plan.period != 0) {
    const i64 numbers = c.out_width * c.channels, vectors = ceil_div(numbers, kChannelVector);
    return channel_vectors(plan, x, kChannelVector, out, kChannelVector, vectors,
                           numbers - (vectors - 1) * kChannelVector, 0, plan.period);
  }
  const i64 vectors = ceil_div(c.channels, kChannelVector);
  for (i64 v = 0; v < vectors; ++v) {
    const i64 first = v * kChannelVector, count = smaller(kChannelVector, c.channels - first);
    for (i64 p = 0; p < c.out_width; ++p) {
      channel_vectors(plan, x + first + p * c.stride_w * c.channels, 0, out + first + p * c.channels, 0, 1,
                      count, v, vectors);
    }
  }
}

}  // namespace

#include "slide_zmm.inl.h"

namespace {

// Some rows of an image, whose input is laid out for them alone, so that it stays in the cache.
void channel_band(void* context, i64 index) {
  const ChannelPlan& plan = *static_cast<const ChannelPlan*>(context);
  const IntegerConv& c = *plan.c;
  const i64 image = index / plan.bands, first = index % plan.bands * plan.band_rows,
            rows = smaller(plan.band_rows, c.out_height - first),
            framed_rows = (rows - 1) * c.stride_h + (c.kernel_h - 1) * c.dilation_h + 1;
  u8* x = scratch_array<u8>(Scratch::padded_input, framed_rows * plan.size.row + kBeyond);
  for (i64 row = 0; row < framed_rows; ++row) {
    frame_row(c, plan.size, image, first * c.stride_h + row, Dot::centre(c.zero), x + row * plan.size.row);
  }
  std::memset(x + framed_rows * plan.size.row, 0, kBeyond);
  i8* out = c.out + (image * c.out_height + first) * c.out_width * c.channels;
  for (i64 row = 0; row < rows && channels_slide(c); row += 2) {
    slide_rows(plan, x + row * plan.size.row, out + row * c.out_width * c.channels, row + 1 < rows);
  }
  for (i64 row = 0; row < rows && !channels_slide(c); ++row) {
    channel_row(plan, x + row * c.stride_h * plan.size.row, out + row * c.out_width * c.channels);
  }
}

void convolve_channels(const IntegerConv& c, int threads) {
  constexpr i64 kBandNumbers = i64{1} << 17;
  const i64 taps = c.kernel_h * c.kernel_w;
  ChannelPlan plan{};
  plan.c = &c;
  plan.size = framed(c);
  plan.fours = ceil_div(taps, 4);
  plan.period = channel_period(c);
  i64* offsets = scratch_array<i64>(Scratch::tap_offsets, plan.fours * 4);
  for (i64 t = 0; t < plan.fours * 4; ++t) {
    const i64 y = t / c.kernel_w * c.dilation_h, x = t % c.kernel_w * c.dilation_w;
    offsets[t] = t < taps ? y * plan.size.row + x * c.channels : 0;
  }
  plan.offsets = offsets;
  const i64 fitting = larger(1, kBandNumbers / larger(1, plan.size.row * c.stride_h));
  const i64 shares = threads > 1 && c.batch < threads ? 2 * threads : 1;
  plan.band_rows = larger(1, smaller(fitting, ceil_div(c.out_height, shares)));
  plan.bands = ceil_div(c.out_height, plan.band_rows);
  parallel_for(c.batch * plan.bands, threads, channel_band, &plan);
}

// ---- weights laid out

i64 channel_bytes(const IntegerConv& c) {
  if (channels_slide(c)) return integer_outputs(c) * kSlideTaps;
  return integer_outputs(c) * ceil_div(c.kernel_h * c.kernel_w, 4) * 4;
}

void prepare_channels(const IntegerConv& c, const i8* w, const i32* given, void* weights, i32* rows) {
  const i64 taps = c.kernel_h * c.kernel_w, filled = round_up(taps, 4);
  const u32 offset = static_cast<u32>(static_cast<i32>(c.zero) + Dot::centre(c.zero));
  for (i64 at = 0; at < integer_outputs(c); ++at) {
    const i64 quarter = at % kChannelVector / kQuarter, lane = at % kQuarter,
              number = at / kChannelVector * kChannelVector + number_at(quarter, lane),
              channel = channel_period(c) != 0 ? number % c.channels : number;
    const bool is = channel < c.channels, slides = channels_slide(c);
    if (slides) lay_out_slide(is ? w + channel * taps : nullptr, at, static_cast<i8*>(weights));
    i8* vector = static_cast<i8*>(weights) + at / kChannelVector * filled * kChannelVector;
    u32 sum = 0;
    for (i64 t = 0; t < filled; ++t) {
      const i8 value = is && t < taps ? w[channel * taps + t] : i8{0};
      if (!slides) vector[t / 4 * 4 * kChannelVector + quarter * kChannelVector + lane * 4 + t % 4] = value;
      sum += static_cast<u32>(i32{value});
    }
    fill_rows(c, given, is ? channel : -1, offset * sum, rows + at);
  }
}

}  // namespace
