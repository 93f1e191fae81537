// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "kernel.h"
#include "parallel.h"
#include "random.h"
#include "rounding.h"
#include "scratch.h"
#include "simd/neon.h"

// after simd: its block codecs
#include "../quantize_blockwise/codec.h"

namespace bittern::neon {
#include "../quantize_blockwise/codec.neon.inl.h"
#include "rules.inl.h"

#include "blocks.inl.h"

#include "apply.inl.h"

#include "runs.inl.h"

#include "kernel.inl.h"
}  // namespace bittern::neon
