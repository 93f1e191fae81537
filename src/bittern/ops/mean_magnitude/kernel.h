// SPDX-License-Identifier: Apache-2.0

// mean_magnitude: the mean |x| over the channels of every pixel, and carried to the outputs of a convolution:
// the mean over the pixels that each sees. The same bits on every instruction set, with any number of threads
// and however x lies.
#pragma once

#include "dispatch.h"
#include "types.h"

namespace bittern {

// All fields are 64 bits wide, because Python fills them.
struct InputScale {
  i64 batch, height, width, channels, out_height, out_width;
  i64 kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w, dilation_h, dilation_w;
  i64 per_sample;  // 1: the mean over all pixels, at every output; the window is not looked at
  const float* x;
  i64 x_image, x_row, x_pixel, x_channel;  // elements from one to the next
  float* means;                            // [batch, height, width]: working memory
  float* out;                              // [batch, out_height, out_width]; may be `means` for 1x1 windows
};

struct MeanMagnitudeKernels {
  void (*input_scale)(const InputScale& s, int threads);
  // Its second half: `means` carried to `out`. The images x are not looked at.
  void (*window_mean)(const InputScale& s, int threads);
};

BITTERN_DISPATCH(mean_magnitude, MeanMagnitudeKernels)

}  // namespace bittern
