// SPDX-License-Identifier: Apache-2.0

// neon.h, for CPUs that have SDOT too.
#pragma once

#include "neon.h"

namespace bittern::neon_dotprod {
using namespace neon;
}  // namespace bittern::neon_dotprod
