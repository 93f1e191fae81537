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
#include "../linear_4bit/elements.inl.h"

#include "../linear_4bit/tile.inl.h"

#include BITTERN_FILE(linear_8bit, dot)

#include "row_codes.inl.h"

#include "kernel.inl.h"

const Linear8bitKernels linear_8bit_kernels = {linear_8bit};
}  // namespace bittern::BITTERN_SET
