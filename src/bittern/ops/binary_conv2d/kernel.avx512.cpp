// SPDX-License-Identifier: Apache-2.0

// Binary convolution on AVX-512 with VPOPCNTDQ.
//
// Lanes are output channels: a vector of weights holds the same word of eight channels, and one word of a
// pixel is broadcast against it, so that no sum ever crosses lanes. Weights are [channel / 16][word][16]; two
// vectors of weights serve kPixels pixels while they are in registers. A 64-bit lane cannot overflow.

#include <cstring>

#include "kernel.h"

#include "parallel.h"
#include "scratch.h"
#include "simd/avx512.h"

namespace bittern::avx512 {

#include "popcount.inl.h"

namespace {

constexpr i64 kVector = 2 * kWords;
constexpr i64 kBlock = kVector;
constexpr int kPixels = 6;  // 12 accumulators, 2 weights, 6 broadcast words: within 32 registers

i64 vector_bytes(const Depth& depth) {
  return depth.taps * depth.words * kVector * static_cast<i64>(sizeof(u64));
}

void prepare_block(const u64* rows, i64 channels, const Depth& depth, u8* out) {
  const i64 words = depth.taps * depth.words;
  u64* lanes = reinterpret_cast<u64*>(out);
  for (i64 i = 0; i < words; ++i) {
    for (i64 channel = 0; channel < kVector; ++channel) {
      lanes[i * kVector + channel] = channel < channels ? rows[channel * words + i] : 0;
    }
  }
}

// Counts of `pixels` pixels and 16 channels.
template <int pixels>
void count_tile(const u64* panel, i64 words, const u64* weights, i32* counts) {
  Words low[pixels], high[pixels];
  BITTERN_UNROLL
  for (int p = 0; p < pixels; ++p) low[p] = high[p] = zero_words();
  for (i64 i = 0; i < words; ++i) {
    const Words w_low = load_words(weights + i * kVector),
                w_high = load_words(weights + i * kVector + kWords);
    BITTERN_UNROLL
    for (int p = 0; p < pixels; ++p) {
      const Words x = splat_word(panel[p * words + i]);
      low[p] = add(low[p], count_differences(x, w_low));
      high[p] = add(high[p], count_differences(x, w_high));
    }
  }
  BITTERN_UNROLL
  for (int p = 0; p < pixels; ++p) {
    store_low(counts + p * kVector, low[p]);
    store_low(counts + p * kVector + kWords, high[p]);
  }
}

void count_rest(i64 pixels, const u64* panel, i64 words, const u64* weights, i32* counts) {
  switch (pixels) {
    case 5:
      return count_tile<5>(panel, words, weights, counts);
    case 4:
      return count_tile<4>(panel, words, weights, counts);
    case 3:
      return count_tile<3>(panel, words, weights, counts);
    case 2:
      return count_tile<2>(panel, words, weights, counts);
    case 1:
      return count_tile<1>(panel, words, weights, counts);
    default:
      return;
  }
}

void count_differences(const u64* panel, i64 pixels, const u8* weights, i64, const Depth& depth,
                       const Counts& counts) {
  const i64 words = panel_units(depth);
  const u64* lanes = reinterpret_cast<const u64*>(weights);
  i64 p = 0;
  for (; p + kPixels <= pixels; p += kPixels) {
    count_tile<kPixels>(panel + p * words, words, lanes, counts.values + p * kVector);
  }
  count_rest(pixels - p, panel + p * words, words, lanes, counts.values + p * kVector);
}

}  // namespace

#include "kernel.inl.h"

#include "direct.avx512.inl.h"

#include "rows.inl.h"

#include "finish_rows.inl.h"

#include "depthwise.inl.h"

#include "lanes.avx512.inl.h"

#include "grouped.inl.h"

#include "lookups.inl.h"

constexpr i64 kFewChannels = 32;  // with more, counting whole words costs as little

#include "pixels.inl.h"

#include "choose.inl.h"

#include "peak.inl.h"

const BinaryConv2dKernels binary_conv2d_kernels = {
    chosen_bytes, prepare_chosen, conv2d_chosen<conv2d_direct_or_panel>, finish_accumulators, count_in_cache};

}  // namespace bittern::avx512
