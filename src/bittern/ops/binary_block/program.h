// SPDX-License-Identifier: Apache-2.0

// A run of native steps over memory that was planned beforehand: fused binary convolutions, and what stands
// between them and the real layers. One call, no allocation.
#pragma once

#include "binary_conv2d/kernel.h"
#include "concatenate_bits/kernel.h"
#include "integer_add/kernel.h"
#include "integer_conv/kernel.h"
#include "integer_dequantize/kernel.h"
#include "integer_mean/kernel.h"
#include "integer_pool/kernel.h"
#include "integer_quantize/kernel.h"
#include "integer_softmax/kernel.h"
#include "integer_table/kernel.h"
#include "isa.h"
#include "map_images/kernel.h"
#include "mean_magnitude/kernel.h"
#include "pool_bits/kernel.h"
#include "pool_images/kernel.h"
#include "real_conv/kernel.h"
#include "real_linear/kernel.h"
#include "types.h"

namespace bittern {

// Bit planes of a product: sum over i, j of g_i 2^j times the convolution of input plane j and weight plane
// i; g_i = 2^i but for the last.
struct Planes {
  i64 input, weight;              // how many
  i64 input_words, weight_bytes;  // from one to the next
  i64 last_factor;                // g of the last weight plane, also below 0
  i64 raised;                     // bit j: the padding of input plane j is +1, whatever the others' is
};

// Real numbers [batch, height, width, channels] to bits with a border: signs, or the bit planes of levels.
// The channels of a pixel lie side by side and pixels without gaps, or the pixels of a row lie side by side.
struct EncodeImage {
  i64 batch, height, width, channels;
  i64 planes;       // 1: of x >= threshold; more: of round(clip(x, 0, 1) * (2^planes - 1))
  i64 plane_words;  // from one to the next
  const float* x;
  i64 x_image, x_row, x_pixel, x_channel;  // elements from one to the next
  const float* threshold;                  // [channels], or null for 0
  const float* affine;  // [2, channels], factor and addend in front of the comparison of one plane, or null
  u64* bits;            // pixel (0, 0)
  i64 bits_row, bits_image;
  i64 pixel_words, first_bit;  // of one plane: channels that stand behind others, as `BitPlace` says
};

// Whether the numbers of a row of pixels follow each other, channels last; else the pixels of a channel do.
static inline bool has_channels_last(const EncodeImage& e) {
  return (e.x_channel == 1 || e.channels == 1) && (e.x_pixel == e.channels || e.width <= 1);
}

// Bytes of the memory behind the addresses of a step, which `misfit_of` compares with what the step touches.
struct Sizes {
  i64 input_before;  // of the input, in front of its address: a border
  i64 input, weights;
  i64 rows;  // of a tail, of operations, or of an affine map; the bias of a row product
  i64 residual, factor;
  i64 input_scale;  // read by a tail, or working memory of what writes it
  i64 real, bits;   // results
  i64 mask;         // threshold, flips, limits, or the order of products
  i64 tree;         // of sums, or operations
};

enum class StepKind : i64 {
  convolve,
  encode,
  pool,
  real,
  pool_bits,
  concatenate_bits,
  real_pool,
  linear,
  input_scale,
  map,
  integer_conv,
  integer_add,
  integer_pool,
  integer_table,
  integer_softmax,
  integer_mean,
  integer_quantize,
  integer_dequantize,
  count
};

// All fields are 64 bits wide, because Python fills them; `fields.h` names them.
struct ProgramStep {
  StepKind kind;
  Conv2d conv;
  Tail tail;  // of the convolution
  Planes planes;
  EncodeImage encode;
  PoolImages pool;  // alone, or behind `real`
  RealConv real;
  InputScale input_scale;
  PoolBits pool_bits;
  ConcatenateBits concatenate_bits;
  RealLinear linear;
  MapImages map;
  IntegerConv integer_conv;
  IntegerAdd integer_add;
  IntegerPool integer_pool;
  IntegerTable integer_table;
  IntegerSoftmax integer_softmax;
  IntegerMean integer_mean;
  IntegerQuantize integer_quantize;
  IntegerDequantize integer_dequantize;
  Sizes sizes;
};

// The caller answers for every number and address; `extents.h` checks them.
void run_steps(Isa isa, const ProgramStep* steps, i64 count, int threads);

}  // namespace bittern
