// SPDX-License-Identifier: Apache-2.0
#include "kernel.h"

#include <cstring>

#include "parallel.h"
#include "scratch.h"
#include "set_files.h"
#include BITTERN_SIMD

namespace bittern::BITTERN_SET {
#include "integer_conv/fixed.inl.h"

#include BITTERN_FILE(integer_conv, fixed)

#include "integer_conv/rounded.inl.h"

#include BITTERN_FILE(integer_conv, dot)

#include "gates.inl.h"

#include "kernel.inl.h"
}  // namespace bittern::BITTERN_SET
