// SPDX-License-Identifier: Apache-2.0

// unpack_signs: bit 1 becomes +1, bit 0 becomes -1, in a float type.
#pragma once

#include "dispatch.h"
#include "types.h"

namespace bittern {

struct UnpackSignsKernels {
  // words [rows, ceil(cols / 64)] -> out [rows, cols]; `type` is a float type.
  void (*unpack)(const u64* words, i64 rows, i64 cols, DType type, void* out, int threads);
};

BITTERN_DISPATCH(unpack_signs, UnpackSignsKernels)

}  // namespace bittern
