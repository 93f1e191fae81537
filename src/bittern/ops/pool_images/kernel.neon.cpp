// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "kernel.h"

#include "parallel.h"
#include "simd/neon.h"

namespace bittern::neon {
#include "kernel.inl.h"
}  // namespace bittern::neon
