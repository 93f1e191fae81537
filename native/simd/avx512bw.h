// SPDX-License-Identifier: Apache-2.0

// 512-bit vectors for CPUs with the AVX-512 of 2017 (F, BW, VL, DQ), which has no instruction that counts
// bits: bytes for table lookups, as in avx2.h.
#pragma once

#include "avx512_intrinsics.h"

#include "../types.h"

namespace bittern::avx512bw {

#include "ymm.inl.h"

#include "zmm.inl.h"

#include "zmm_bytes.inl.h"

#include "nibble_pairs.inl.h"

#include "nibble_planes.inl.h"

}  // namespace bittern::avx512bw
