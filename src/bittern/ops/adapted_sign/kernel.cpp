// SPDX-License-Identifier: Apache-2.0
#include "kernel.h"

#include <cmath>
#include <cstring>

#include "parallel.h"
#include "set_files.h"
#include BITTERN_SIMD

namespace bittern::BITTERN_SET {
#include "sign_slopes/functions.inl.h"

#include "sign_slopes/fourier.inl.h"

#include "kernel.inl.h"
}  // namespace bittern::BITTERN_SET
