// SPDX-License-Identifier: Apache-2.0

// real_linear: products of real rows with a weight, summed in an order that the caller chooses.
#pragma once

#include "dispatch.h"
#include "real_conv/kernel.h"
#include "types.h"

namespace bittern {

// Sums of a tree that are held at once.
constexpr i64 kMostSums = 16;

// What a part of a tree does to the sums that are held.
enum class TreePart : i64 {
  start,   // a new sum of so many products, added one by one
  extend,  // so many products are added to the last sum, one by one
  add,     // the last two become their sum
  bias,    // the bias is a new sum
  count
};

// All fields are 64 bits wide, because Python fills them.
struct RealLinear {
  i64 rows, features, out_features, parts;
  i64 fused;             // 1: products are added by fma; 0: each is rounded first
  const float* x;        // [rows, features]
  const float* weights;  // [ceil(out_features / kRealUnit), features, kRealUnit], products in their order
  const float* bias;     // [out_features rounded up to whole units], or null where the tree has none
  const i64* products;   // [features]: the products in their order; null: as they lie
  const i64* tree;       // [parts, 2]: a TreePart, and how many products it takes
  float* out;            // [rows, out_features], rows out_row numbers apart
  i64 out_row;
};

struct RealLinearKernels {
  void (*linear)(const RealLinear& linear, int threads);
};

BITTERN_DISPATCH(real_linear, RealLinearKernels)

}  // namespace bittern
