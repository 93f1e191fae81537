// SPDX-License-Identifier: Apache-2.0

// Binary convolution on AVX2, which has no instruction that counts bits: 32 output channels a lookup.

#include <cstring>

#include "kernel.h"

#include "parallel.h"
#include "scratch.h"
#include "simd/avx2.h"

namespace bittern::avx2 {

#include "nibbles.inl.h"

#include "kernel.inl.h"

#include "rows.inl.h"

#include "finish_rows.inl.h"

#include "depthwise.inl.h"

#include "lanes.avx2.inl.h"

#include "grouped.inl.h"

constexpr i64 kFewChannels = 112;  // the most that bytes count under nine taps

#include "pixels.inl.h"

#include "choose.inl.h"

#include "peak.inl.h"

const BinaryConv2dKernels binary_conv2d_kernels = {chosen_bytes, prepare_chosen, conv2d_chosen<conv2d>,
                                                   finish_accumulators, count_in_cache};

}  // namespace bittern::avx2
