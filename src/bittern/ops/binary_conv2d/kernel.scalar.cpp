// SPDX-License-Identifier: Apache-2.0

// Binary convolution in portable C++: XOR and popcount, one output channel at a time.

#include <cstring>

#include "kernel.h"

#include "parallel.h"
#include "scratch.h"
#include "simd/scalar.h"

namespace bittern::scalar {

#include "popcount.inl.h"

namespace {

constexpr i64 kVector = 1;
constexpr i64 kBlock = 16;

i64 vector_bytes(const Depth& depth) {
  return depth.taps * depth.words * static_cast<i64>(sizeof(u64));
}

void prepare_block(const u64* rows, i64 channels, const Depth& depth, u8* out) {
  std::memcpy(out, rows, static_cast<std::size_t>(channels * vector_bytes(depth)));
}

void count_differences(const u64* panel, i64 pixels, const u8* weights, i64 channels, const Depth& depth,
                       const Counts& counts) {
  const i64 words = panel_units(depth);
  const u64* rows = reinterpret_cast<const u64*>(weights);
  for (i64 pixel = 0; pixel < pixels; ++pixel) {
    for (i64 channel = 0; channel < channels; ++channel) {
      const u64 *x = panel + pixel * words, *w = rows + channel * words;
      i32 differences = 0;
      for (i64 i = 0; i < words; ++i) differences += __builtin_popcountll(x[i] ^ w[i]);
      counts.values[pixel * channels + channel] = differences;
    }
  }
}

}  // namespace

#include "kernel.inl.h"

#include "peak.inl.h"

const BinaryConv2dKernels binary_conv2d_kernels = {prepared_bytes, prepare_weights, conv2d,
                                                   finish_accumulators, count_in_cache};

}  // namespace bittern::scalar
