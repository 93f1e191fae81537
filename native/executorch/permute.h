// SPDX-License-Identifier: Apache-2.0

// Moves the elements of a tensor of four dimensions: NCHW <-> NHWC and the like.
#pragma once

#include "types.h"

namespace bittern {

constexpr int kRank = 4;

struct Permutation {
  i64 element_bytes;  // 4 or 8
  i64 sizes[kRank];   // of the source
  i64 order[kRank];   // dimension d of the result is dimension order[d] of the source
};

bool is_permutation(const Permutation& plan);
void permute(const Permutation& plan, const void* source, void* result, int threads);

}  // namespace bittern
