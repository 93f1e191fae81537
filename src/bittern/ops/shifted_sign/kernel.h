// SPDX-License-Identifier: Apache-2.0

// sign(x + shift) with a shift per channel, and its gradients by ApproxSign.
#pragma once

#include "dispatch.h"
#include "types.h"

namespace bittern {

struct ShiftedImages {
  const float* x;      // [outer, channels, inner]
  const float* shift;  // [channels]
  i64 outer, channels, inner;

  // Channels last: a part is some pixels; else it is the pixels of a channel of one sample.
  bool last() const { return inner == 1; }
  i64 part_rows() const {
    constexpr i64 kPartNumbers = i64{1} << 13;
    return channels < kPartNumbers ? kPartNumbers / (channels < 1 ? 1 : channels) : 1;
  }
  // Sums of each channel that are added in the end.
  i64 parts() const { return last() ? (outer + part_rows() - 1) / part_rows() : outer; }
};

struct ShiftedSignKernels {
  void (*sign)(const ShiftedImages& images, float* out, int threads);
  // sums: [parts, channels], working memory; to_x like x; to_shift [channels].
  void (*gradient)(const ShiftedImages& images, const float* grad, float* sums, float* to_x, float* to_shift,
                   int threads);
};

BITTERN_DISPATCH(shifted_sign, ShiftedSignKernels)

}  // namespace bittern
