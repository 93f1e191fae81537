// SPDX-License-Identifier: Apache-2.0

// integer_conv: convolution of int8 images with channels last by int8 weights, int32 sums, a fixed-point
// factor for each output channel, int8 again.
#pragma once

#include "dispatch.h"
#include "types.h"

namespace bittern {

// Output channels that are summed, and finished, side by side.
constexpr i64 kIntegerUnit = 16;

// Weights of 4 bits lie in runs: the first half of one in the low nibbles of its bytes, the other above it.
constexpr i64 kNibbleRun = 64;
struct Nibbles {
  std::int8_t both;
};

// Rows of the numbers behind the sums, each of integer_outputs() int32.
constexpr i64 kIntegerRows = 4;  // bias, multiplier, shift, and 2^16 times the factor in float32

// How the sums become int8.
enum class IntegerEnding : i64 {
  rounded_twice,      // `scaled` of factors below 1, where a product and half of a step fit int32
  rounded_twice_any,  // `scaled` of any
  rounded_once,       // `scaled_once`, where results are below 2^30
  rounded_once_any,   // `scaled_once` of any
  raised,             // `rounded_twice`, but that some factors are 1 and more
  rounded_once_near,  // `scaled_once`, where results are below 2^15 - 2^8
  count
};

// All fields are 64 bits wide, because Python fills them.
struct IntegerConv {
  i64 batch, height, width, channels, out_height, out_width, out_channels;
  i64 kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
  i64 groups;                     // that split channels and out_channels
  i64 zero, out_zero, low, high;  // zero points, and between which the results lie
  i64 ending;                     // an IntegerEnding
  i64 weight_bits;                // 8, or 4: two weights a byte, from -8 to 7
  const std::int8_t* x;           // [batch, height, width, channels]
  const void* weights;            // as `prepare` laid them out for the same instruction set
  const i32* rows;                // [kIntegerRows, integer_outputs]
  std::int8_t* out;               // [batch, out_height, out_width, out_channels]
};

// Each channel by itself: summed by channels, not by products.
static constexpr inline bool is_depthwise(const IntegerConv& c) {
  return c.groups == c.channels && c.groups == c.out_channels && c.groups > 1;
}

// Channels side by side that are summed by themselves, by the widest vectors.
constexpr i64 kChannelVector = 64;

static constexpr inline i64 common_divisor(i64 a, i64 b) {
  while (b != 0) {
    const i64 rest = a % b;
    a = b, b = rest;
  }
  return a;
}

// Whether sums by channels go pixel by pixel along two rows at once: windows of 3 x 3 side by side.
static constexpr inline bool channels_slide(const IntegerConv& c) {
  constexpr i64 kLeast = 33;  // of fewer, half a vector would stay empty
  return c.channels >= kLeast && c.kernel_h == 3 && c.kernel_w == 3 && c.stride_h == 1 && c.stride_w == 1 &&
         c.dilation_h == 1 && c.dilation_w == 1;
}

// Vectors of numbers of a row of pixels after which the same channels come again, where sums by channels go
// along a row whatever its pixels; 0 where they go by pixels.
static constexpr inline i64 channel_period(const IntegerConv& c) {
  constexpr i64 kMost = 16;
  const i64 period = c.channels / common_divisor(c.channels, kChannelVector);
  const bool along = c.stride_w == 1 && !channels_slide(c);
  return along && c.channels % kChannelVector != 0 && period <= kMost ? period : 0;
}

// Numbers of a row behind the sums: those of each group begin at a unit.
static constexpr inline i64 integer_outputs(const IntegerConv& c) {
  if (!is_depthwise(c)) return c.groups * round_up(c.out_channels / c.groups, kIntegerUnit);
  const i64 period = channel_period(c);
  return period != 0 ? period * kChannelVector : round_up(c.channels, kChannelVector);
}

struct IntegerConvKernels {
  void (*conv)(const IntegerConv& conv, int threads);
  // Bytes of the weights laid out. Weights and rows are not read.
  i64 (*prepared_bytes)(const IntegerConv& conv);
  // Lays out w [out_channels, channels / groups, kernel_h, kernel_w] and the rows, given as three rows of
  // out_channels numbers.
  void (*prepare)(const IntegerConv& conv, const std::int8_t* w, const i32* given, void* weights, i32* rows);
};

BITTERN_DISPATCH(integer_conv, IntegerConvKernels)

}  // namespace bittern
