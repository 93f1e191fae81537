// SPDX-License-Identifier: Apache-2.0
#include "kernel.h"

#include <cstring>

#include "parallel.h"
#include "rounding.h"
#include "scratch.h"
#include "simd/scalar.h"

// after simd, each after the one that it needs
namespace bittern::scalar {
#include "../linear_4bit/elements.inl.h"

#include "../linear_4bit/tile.inl.h"

#include "dot.scalar.inl.h"

#include "kernel.inl.h"
}  // namespace bittern::scalar
