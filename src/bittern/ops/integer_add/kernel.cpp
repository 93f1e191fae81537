// SPDX-License-Identifier: Apache-2.0
#include "kernel.h"

#include <cstring>

#include "parallel.h"
#include "set_files.h"
#include BITTERN_SIMD

namespace bittern::BITTERN_SET {
#include "../integer_conv/fixed.inl.h"

#include BITTERN_FILE(integer_conv, fixed)

#include "exact.inl.h"

#include BITTERN_FILE(integer_add, sums)

#include "kernel.inl.h"
}  // namespace bittern::BITTERN_SET
