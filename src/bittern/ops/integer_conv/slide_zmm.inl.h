// SPDX-License-Identifier: Apache-2.0

// Each channel by itself, windows of 3 x 3 side by side. Included inside namespace avx512, by
// channels_zmm.inl.h.
//
// The four rows under two rows of results are interleaved once a column of pixels. The upper result takes
// the first three of them, with weights (w0, w1, w2, 0), and the lower one the last three, with
// (0, w0, w1, w2). Two pixels at once read each weight once.

namespace {

constexpr i64 kSlideTaps = 2 * 3 * 4;  // of a number: of both rows of results, by columns
constexpr i64 kColumnWeights = kQuarters * kChannelVector;

// Weights of output `at`, or zeros, among those of all.
inline void lay_out_slide(const i8* w, i64 at, i8* weights) {
  const i64 quarter = at % kChannelVector / kQuarter, lane = at % kQuarter;
  i8* vector =
      weights + at / kChannelVector * kChannelVector * kSlideTaps + quarter * kChannelVector + lane * 4;
  for (i64 lower = 0; lower < 2; ++lower) {
    for (i64 column = 0; column < 3; ++column) {
      i8* to = vector + (lower * 3 + column) * kColumnWeights;
      for (i64 row = 0; row < 4; ++row) {
        const i64 tap = row - lower;
        to[row] = w != nullptr && tap >= 0 && tap < 3 ? w[tap * 3 + column] : i8{0};
      }
    }
  }
}

// One vector of the channels of a pair of rows.
struct Slide {
  const u8* x;      // of the first of four rows
  i64 row, fourth;  // numbers from it to the next, and to the fourth, or another one where none is needed
  i64 channels, columns;  // numbers from one pixel to the next; pixels of a row of x
  const i8* w;
  UnitRows rows;
  i64 count;
};

BITTERN_INLINE Taps column_of(const Slide& s, i64 column) {
  const u8* x = s.x + smaller(column, s.columns - 1) * s.channels;
  return interleaved(_mm512_loadu_si512(x), _mm512_loadu_si512(x + s.row), _mm512_loadu_si512(x + 2 * s.row),
                     _mm512_loadu_si512(x + s.fourth));
}

// Two neighbouring results, of which the second may be none.
BITTERN_INLINE void slide_pair(const IntegerConv& c, const Slide& s, const ChannelEnding& how,
                               const ChannelFactors& factors, const Taps (&columns)[4], const i8* w, i8* out,
                               bool both) {
  Lanes first[1][kQuarters], second[1][kQuarters];
  BITTERN_UNROLL
  for (int q = 0; q < kQuarters; ++q) {
    first[0][q] = second[0][q] = _mm512_loadu_si512(s.rows.bias + q * kQuarter);
  }
  BITTERN_UNROLL
  for (int k = 0; k < 3; ++k) {
    BITTERN_UNROLL
    for (int q = 0; q < kQuarters; ++q) {
      const __m512i weights = _mm512_loadu_si512(w + k * kColumnWeights + q * kChannelVector);
      first[0][q] = _mm512_dpbusd_epi32(first[0][q], columns[k].quarter[q], weights);
      second[0][q] = _mm512_dpbusd_epi32(second[0][q], columns[k + 1].quarter[q], weights);
    }
  }
  if (how.twice) {
    store_channels(out, channels_twice(factors, how.limits, first), s.count);
    if (both) store_channels(out + s.channels, channels_twice(factors, how.limits, second), s.count);
    return;
  }
  if (how.nearly) {
    NearlyEnding ending = how.start;
    store_channels(out, channels_nearly(s.rows, how.limits, first, ending), s.count);
    if (both) store_channels(out + s.channels, channels_nearly(s.rows, how.limits, second, ending), s.count);
    if (are_certain(ending, kNearlyError)) return;
  }
  store_channels(out, channels_for_certain(c, s.rows, first), s.count);
  if (both) store_channels(out + s.channels, channels_for_certain(c, s.rows, second), s.count);
}

void slide_vector(const IntegerConv& c, const Slide& s, i8* out, i8* lower) {
  const ChannelEnding how = channel_ending(c);
  const ChannelFactors factors = channel_factors(s.rows);
  Taps columns[4];
  columns[2] = column_of(s, 0), columns[3] = column_of(s, 1);
  for (i64 p = 0; p < c.out_width; p += 2) {
    columns[0] = columns[2], columns[1] = columns[3];
    columns[2] = column_of(s, p + 2), columns[3] = column_of(s, p + 3);
    const bool both = p + 1 < c.out_width;
    slide_pair(c, s, how, factors, columns, s.w, out + p * s.channels, both);
    if (lower != nullptr) {
      slide_pair(c, s, how, factors, columns, s.w + 3 * kColumnWeights, lower + p * s.channels, both);
    }
  }
}

// A row of results, and the next one where there is one.
void slide_rows(const ChannelPlan& plan, const u8* x, i8* out, bool two) {
  const IntegerConv& c = *plan.c;
  const i64 row = plan.size.row;
  for (i64 channel = 0; channel < c.channels; channel += kChannelVector) {
    const i8* w = static_cast<const i8*>(c.weights) + channel * kSlideTaps;
    const Slide slide{
        x + channel,     row, (two ? 3 : 2) * row, c.channels,
        plan.size.width, w,   rows_of(c, channel), smaller(kChannelVector, c.channels - channel)};
    slide_vector(c, slide, out + channel, two ? out + c.out_width * c.channels + channel : nullptr);
  }
}

}  // namespace
