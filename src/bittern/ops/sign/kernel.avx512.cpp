// SPDX-License-Identifier: Apache-2.0
#include "kernel.h"
#include "parallel.h"

namespace bittern::avx512 {
#include "kernel.inl.h"
}  // namespace bittern::avx512
