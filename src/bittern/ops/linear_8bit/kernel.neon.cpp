// SPDX-License-Identifier: Apache-2.0
#include "kernel.h"

#include <cstring>

#include "parallel.h"
#include "rounding.h"
#include "scratch.h"
#include "simd/neon.h"

// after simd, each after the one that it needs
namespace bittern::neon {
#include "../linear_4bit/elements.inl.h"

#include "../linear_4bit/tile.inl.h"

#include "dot.neon.inl.h"

#include "kernel.inl.h"
}  // namespace bittern::neon
