// SPDX-License-Identifier: Apache-2.0
#include "kernel.h"

#include <cmath>
#include <cstring>

#include "parallel.h"
#include "set_files.h"
#include BITTERN_SIMD

namespace bittern::BITTERN_SET {
#include "functions.inl.h"

#include "fourier.inl.h"

#include "approx.inl.h"

#include "kernel.inl.h"
}  // namespace bittern::BITTERN_SET
