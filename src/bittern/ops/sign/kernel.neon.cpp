// SPDX-License-Identifier: Apache-2.0
#include "kernel.h"
#include "parallel.h"

namespace bittern::neon {
#include "kernel.inl.h"
}  // namespace bittern::neon
