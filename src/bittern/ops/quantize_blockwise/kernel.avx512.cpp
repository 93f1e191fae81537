// SPDX-License-Identifier: Apache-2.0
#include "kernel.h"

#include <cstring>

#include "parallel.h"
#include "random.h"
#include "rounding.h"
#include "simd/avx512.h"

// after simd: its block codecs
namespace bittern::avx512 {
#include "codec.avx512.inl.h"

namespace {
inline void decode_bytes(const CodeTable& t, const u8* codes, float absmax, float* out, i64 n) {
  decode_tree(t.bytes, codes, absmax, out, n);
}
}  // namespace

#include "kernel.inl.h"
}  // namespace bittern::avx512
