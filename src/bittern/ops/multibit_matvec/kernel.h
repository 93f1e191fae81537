// SPDX-License-Identifier: Apache-2.0

// multibit_matvec: products of weights and inputs that are sums of scaled signs, all pairs of planes in one
// pass over the weights. The same bits on every instruction set, with any number of threads.
#pragma once

#include "../binary_conv2d/kernel.h"
#include "dispatch.h"
#include "types.h"

namespace bittern {

struct MultibitWeight {
  i64 planes, rows, n;
  i64 words() const { return ceil_div(n, kWordBits); }
};

struct MultibitMatvec {
  MultibitWeight weight;
  const u8* weights;     // as `prepare` left them
  const float* w_scale;  // [weight.planes, weight.rows]
  const float* bias;     // null, or [weight.rows]
  i64 batch, planes;     // of x
  const u64* x;          // [planes, batch, words]
  const float* x_scale;  // [batch, planes]
  float* out;            // [batch, weight.rows]
};

struct MultibitMatvecKernels {
  i64 (*prepared_bytes)(const MultibitWeight& w, const BinaryConv2dKernels& products);
  // canonical: [planes, rows, words]
  void (*prepare)(const MultibitWeight& w, const BinaryConv2dKernels& products, const u64* canonical,
                  u8* prepared);
  void (*multiply)(const MultibitMatvec& job, const BinaryConv2dKernels& products, int threads);
};

BITTERN_DISPATCH(multibit_matvec, MultibitMatvecKernels)

}  // namespace bittern
