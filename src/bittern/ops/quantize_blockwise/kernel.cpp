// SPDX-License-Identifier: Apache-2.0
#include "kernel.h"

#include <cstring>

#include "parallel.h"
#include "random.h"
#include "rounding.h"
#include "set_files.h"
#include BITTERN_SIMD

// after simd: its block codecs
namespace bittern::BITTERN_SET {
#include BITTERN_FILE(quantize_blockwise, codec)

#include "kernel.inl.h"
}  // namespace bittern::BITTERN_SET
