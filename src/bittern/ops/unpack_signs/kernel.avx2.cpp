// SPDX-License-Identifier: Apache-2.0
#include "kernel.h"
#include "parallel.h"

namespace bittern::avx2 {
#include "kernel.inl.h"
}  // namespace bittern::avx2
