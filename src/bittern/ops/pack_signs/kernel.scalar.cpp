// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "kernel.h"
#include "parallel.h"
#include "simd/scalar.h"

namespace bittern::scalar {
#include "kernel.inl.h"
}  // namespace bittern::scalar
