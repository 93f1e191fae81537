// SPDX-License-Identifier: Apache-2.0

// 512-bit vectors, with the instruction that counts the bits of eight 64-bit words (VPOPCNTDQ).
#pragma once

#include "avx512_intrinsics.h"

#include "../types.h"

namespace bittern::avx512 {

#include "ymm.inl.h"

#include "zmm.inl.h"

#include "zmm_bytes.inl.h"

#include "nibble_planes.inl.h"

// Number of positions where the bits of a and b differ, word by word.
static inline Words count_differences(Words a, Words b) {
  return {_mm512_popcnt_epi64(_mm512_xor_si512(a.bits, b.bits))};
}
static inline Words add(Words a, Words b) {
  return {_mm512_add_epi64(a.bits, b.bits)};
}
// The low halves of the words of a, then of b.
static inline I32 join_low(Words a, Words b) {
  const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
  return {_mm512_permutex2var_epi32(a.bits, even, b.bits)};
}
// The low halves of the words.
static inline void store_low(i32* p, Words x) {
  _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), _mm512_cvtepi64_epi32(x.bits));
}

}  // namespace bittern::avx512
