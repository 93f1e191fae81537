// SPDX-License-Identifier: Apache-2.0
#include "kernel.h"

#include <cstring>

#include "parallel.h"
#include "rounding.h"
#include "scratch.h"
#include "set_files.h"
#include BITTERN_SIMD

// after simd, each after the one that it needs
namespace bittern::BITTERN_SET {
#include BITTERN_FILE(linear_4bit, nibbles)

#include "scales.inl.h"

#include "chunk.inl.h"

#include "tile.inl.h"

#include "elements.inl.h"

#include "kernel.inl.h"

#include "backward.inl.h"

const Linear4bitKernels linear_4bit_kernels = {linear_4bit, linear_4bit_backward};
}  // namespace bittern::BITTERN_SET
