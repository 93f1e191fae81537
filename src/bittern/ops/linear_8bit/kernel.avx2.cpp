// SPDX-License-Identifier: Apache-2.0
#include "kernel.h"

#include <cstring>

#include "parallel.h"
#include "rounding.h"
#include "scratch.h"
#include "simd/avx2.h"

// after simd, each after the one that it needs
namespace bittern::avx2 {
#include "../linear_4bit/elements.inl.h"

#include "../linear_4bit/tile.inl.h"

#include "dot.avx2.inl.h"

#include "row_codes.inl.h"

#include "kernel.inl.h"

// after kernel: what it leaves to others
#include "pairs.avx2.inl.h"

const Linear8bitKernels linear_8bit_kernels = {forward};
}  // namespace bittern::avx2
