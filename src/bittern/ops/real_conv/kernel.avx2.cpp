// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "kernel.h"
#include "parallel.h"
#include "scratch.h"
#include "simd/avx2.h"

namespace bittern::avx2 {

constexpr int kMostUnits = 1, kFewUnits = 1, kPixels = 6;

#include "kernel.inl.h"
}  // namespace bittern::avx2
