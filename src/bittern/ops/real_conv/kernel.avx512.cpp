// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "kernel.h"
#include "parallel.h"
#include "scratch.h"
#include "simd/avx512.h"

namespace bittern::avx512 {

constexpr int kMostUnits = 4, kFewUnits = 2, kPixels = 5;

#include "kernel.inl.h"
}  // namespace bittern::avx512
