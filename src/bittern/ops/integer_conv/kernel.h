// SPDX-License-Identifier: Apache-2.0

// integer_conv: convolution of int8 images with channels last by int8 weights, int32 sums, a fixed-point
// factor for each output channel, int8 again.
#pragma once

#include "dispatch.h"
#include "types.h"

namespace bittern {

// Output channels that are summed, and finished, side by side.
constexpr i64 kIntegerUnit = 16;

// Rows of the numbers behind the sums, each of integer_outputs() int32.
constexpr i64 kIntegerRows = 3;  // bias, multiplier, shift

// How the sums become int8.
enum class IntegerEnding : i64 {
  rounded_twice,        // `scaled` of factors below 1, where a product and half of a step fit int32
  rounded_twice_large,  // `scaled` of any
  rounded_once,         // `scaled_once`
  count
};

// All fields are 64 bits wide, because Python fills them.
struct IntegerConv {
  i64 batch, height, width, channels, out_height, out_width, out_channels;
  i64 kernel_h, kernel_w, stride_h, stride_w, pad_top, pad_left, dilation_h, dilation_w;
  i64 groups;                     // that split channels and out_channels
  i64 zero, out_zero, low, high;  // zero points, and between which the results lie
  i64 ending;                     // an IntegerEnding
  const std::int8_t* x;           // [batch, height, width, channels]
  const void* weights;            // as `prepare` laid them out for the same instruction set
  const i32* rows;                // [kIntegerRows, integer_outputs]
  std::int8_t* out;               // [batch, out_height, out_width, out_channels]
};

// Each channel by itself: summed by channels, not by products.
static constexpr inline bool is_depthwise(const IntegerConv& c) {
  return c.groups == c.channels && c.groups == c.out_channels && c.groups > 1;
}

// Numbers of a row behind the sums: those of each group begin at a unit.
static constexpr inline i64 integer_outputs(const IntegerConv& c) {
  return is_depthwise(c) ? round_up(c.channels, kIntegerUnit)
                         : c.groups * round_up(c.out_channels / c.groups, kIntegerUnit);
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
