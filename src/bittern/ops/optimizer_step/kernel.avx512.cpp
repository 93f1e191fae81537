// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <type_traits>

#include "kernel.h"
#include "parallel.h"
#include "random.h"
#include "rounding.h"
#include "scratch.h"
#include "simd/avx512.h"

// after simd: its block codecs
#include "../quantize_blockwise/codec.h"

namespace bittern::avx512 {
#include "../quantize_blockwise/codec.avx512.inl.h"
#include "rules.inl.h"

#include "blocks.inl.h"

#include "log_codes.inl.h"

#include "random_squares.inl.h"

#include "apply.inl.h"

#include "squares.avx512.inl.h"

#include "norms.inl.h"

#include "runs.avx512.inl.h"

#include "kernel.inl.h"
}  // namespace bittern::avx512
