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

#include "../linear_8bit/row_codes.inl.h"

#include BITTERN_FILE(linear_groups, quads)

#include "row_tile.inl.h"

#include "inputs.inl.h"

#include "real.inl.h"

#include "int8.inl.h"

const LinearGroupsKernels linear_groups_kernels = {real, int8, decode};
}  // namespace bittern::BITTERN_SET
