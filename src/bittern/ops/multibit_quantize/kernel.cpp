// SPDX-License-Identifier: Apache-2.0
#include "kernel.h"

#include <cstring>

#include "parallel.h"
#include "scratch.h"
#include "set_files.h"
#include BITTERN_SIMD

namespace bittern::BITTERN_SET {
#include "../mean_magnitude/sums.inl.h"

#include "kernel.inl.h"
}  // namespace bittern::BITTERN_SET
