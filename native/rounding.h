// SPDX-License-Identifier: Apache-2.0

// float32 to bf16.
#pragma once

#include <cstring>

#include "types.h"

namespace bittern {

// Rounds to nearest, ties to even; NaN stays NaN, quiet.
static inline bf16 rounded_bf16(float x) {
  u32 bits;
  std::memcpy(&bits, &x, sizeof bits);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<u16>(bits >> 16 | 0x40u)};
  return {static_cast<u16>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16)};
}

}  // namespace bittern
