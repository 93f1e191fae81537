// SPDX-License-Identifier: Apache-2.0
#include "kernel.h"

#include <cstring>

#include "parallel.h"
#include "random.h"
#include "rounding.h"
#include "simd/neon.h"

// after simd: its block codecs
namespace bittern::neon {
#include "codec.neon.inl.h"

namespace {
inline void decode_bytes(const CodeTable& t, const u8* codes, float absmax, float* out, i64 n) {
  for (i64 i = 0; i < n; ++i) out[i] = t.values[codes[i]] * absmax;
}
}  // namespace

#include "kernel.inl.h"
}  // namespace bittern::neon
