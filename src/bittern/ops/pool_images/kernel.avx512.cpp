// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "kernel.h"

#include "parallel.h"
#include "simd/avx512.h"

namespace bittern::avx512 {
#include "kernel.inl.h"
}  // namespace bittern::avx512
