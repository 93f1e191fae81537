// SPDX-License-Identifier: Apache-2.0
#include "kernel.h"

#include <cstring>

#include "parallel.h"
#include "rounding.h"
#include "scratch.h"
#include "simd/avx512.h"

// after simd, each after the one that it needs
namespace bittern::avx512 {
#include "../linear_4bit/elements.inl.h"

#include "../linear_4bit/tile.inl.h"

#include "dot.avx512.inl.h"

#include "kernel.inl.h"
}  // namespace bittern::avx512
