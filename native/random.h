// SPDX-License-Identifier: Apache-2.0

// Random bits from a counter: the same for a seed and a number on every device, in any order.
#pragma once

#include "types.h"

namespace bittern {

static inline u32 mix32(u32 x) {
  x ^= x >> 16;
  x *= 0x7feb352du;
  x ^= x >> 15;
  x *= 0x846ca68bu;
  return x ^ x >> 16;
}

static inline u32 random32(u64 seed, u64 i) {
  const u32 low = mix32(static_cast<u32>(i) + static_cast<u32>(seed));
  return mix32(low ^ (static_cast<u32>(i >> 32) + static_cast<u32>(seed >> 32)));
}

}  // namespace bittern
