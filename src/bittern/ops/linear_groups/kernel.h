// SPDX-License-Identifier: Apache-2.0

// Products with a weight of integers in groups: y = x W^T + bias. layout.py says how its codes lie.
#pragma once

#include "dispatch.h"
#include "types.h"

namespace bittern {

constexpr i64 kTileRows = 16, kTileColumns = 32;  // of codes

// W [n, k] = scale * (code - zero), `group` columns to a scale.
struct WeightGroups {
  const u32* codes;   // [tiles of rows, tiles of columns, bits, kTileRows]
  int bits;           // 2, 3, 4 or 8
  const void* scale;  // [tiles of rows, groups, kTileRows], f32 or f16
  bool half_scale;
  const void* zero;  // the same, u8 or f32; null: 2^(bits - 1)
  bool byte_zero;
  i64 group;  // a multiple of kTileColumns
  i64 n, k;

  i64 row_tiles() const { return ceil_div(n, kTileRows); }
  i64 column_tiles() const { return ceil_div(k, kTileColumns); }
  i64 groups() const { return larger(1, ceil_div(k, group)); }
};

struct LinearGroupsCall {
  const void* x;     // [m, k] of `type`: f32, bf16 or f16
  const void* bias;  // [n] of `type`, or null
  void* out;         // [m, n] of `type`
  DType type;
  i64 m;
};

struct LinearGroupsKernels {
  void (*real)(const LinearGroupsCall& call, const WeightGroups& weight, int threads);
  void (*int8)(const LinearGroupsCall& call, const WeightGroups& weight, int threads);
  // W as numbers of `type`, [n, k]
  void (*decode)(const WeightGroups& weight, DType type, void* out, int threads);
};

BITTERN_DISPATCH(linear_groups, LinearGroupsKernels)

}  // namespace bittern
