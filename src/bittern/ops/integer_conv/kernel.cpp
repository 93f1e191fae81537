// SPDX-License-Identifier: Apache-2.0
#include "kernel.h"

#include <cstring>

#include "parallel.h"
#include "scratch.h"
#include "set_files.h"
#include BITTERN_SIMD

namespace bittern::BITTERN_SET {
#include "fixed.inl.h"

#include BITTERN_FILE(integer_conv, fixed)

#include "rounded.inl.h"

#include "finish.inl.h"

#include BITTERN_FILE(integer_conv, dot)

#include BITTERN_FILE(integer_conv, tile)

#include "frame.inl.h"

#include "rows.inl.h"

#include "products.inl.h"

#include BITTERN_FILE(integer_conv, channels)

#include "kernel.inl.h"
}  // namespace bittern::BITTERN_SET
