// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <type_traits>

#include "kernel.h"
#include "parallel.h"
#include "random.h"
#include "rounding.h"
#include "scratch.h"
#include "set_files.h"
#include BITTERN_SIMD

// after simd: its block codecs
#include "../quantize_blockwise/codec.h"

namespace bittern::BITTERN_SET {
#include BITTERN_FILE(quantize_blockwise, codec)
#include "rules.inl.h"

#include "blocks.inl.h"

#include "log_codes.inl.h"

#include "random_squares.inl.h"

#include "apply.inl.h"

#include BITTERN_FILE(optimizer_step, squares)

#include "norms.inl.h"

#include BITTERN_FILE(optimizer_step, runs)

#include "kernel.inl.h"
}  // namespace bittern::BITTERN_SET
