// SPDX-License-Identifier: Apache-2.0

// sign: +1 where x >= 0, else -1, in the type of x. sign(-0.0) = +1, sign(NaN) = -1.
#pragma once

#include "dispatch.h"
#include "types.h"

namespace bittern {

struct SignKernels {
  // x and out hold n elements of `type`.
  void (*sign)(const void* x, DType type, i64 n, void* out, int threads);
};

BITTERN_DISPATCH(sign, SignKernels)

}  // namespace bittern
