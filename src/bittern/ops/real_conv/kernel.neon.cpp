// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "kernel.h"
#include "parallel.h"
#include "scratch.h"
#include "simd/neon.h"

namespace bittern::neon {

constexpr int kMostUnits = 1, kFewUnits = 1, kPixels = 5;

#include "kernel.inl.h"
}  // namespace bittern::neon
