// SPDX-License-Identifier: Apache-2.0
#include "kernel.h"

#include <cstring>

#include "parallel.h"
#include "rounding.h"
#include "scratch.h"
#include "simd/avx512.h"

// after simd, each after the one that it needs
namespace bittern::avx512 {
#include "nibbles.avx512.inl.h"

#include "scales.inl.h"

#include "chunk.inl.h"

#include "tile.inl.h"

#include "elements.inl.h"

#include "kernel.inl.h"

#include "backward.inl.h"

// after kernel: what it leaves to others
#include "bf16.avx512.inl.h"

const Linear4bitKernels linear_4bit_kernels = {forward, linear_4bit_backward};
}  // namespace bittern::avx512
