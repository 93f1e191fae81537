// SPDX-License-Identifier: Apache-2.0
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("no-trapping-math")  // else comparisons of float32 do not become vectors
#endif
#include "kernel.h"

#include <cstring>

#include "parallel.h"
#include "set_files.h"
#include BITTERN_SIMD

namespace bittern::BITTERN_SET {
#include "kernel.inl.h"
}  // namespace bittern::BITTERN_SET
