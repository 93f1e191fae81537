// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "kernel.h"
#include "parallel.h"
#include "scratch.h"
#include "simd/scalar.h"

namespace bittern::scalar {

constexpr int kMostUnits = 1, kFewUnits = 1, kPixels = 1;

#include "kernel.inl.h"
}  // namespace bittern::scalar
