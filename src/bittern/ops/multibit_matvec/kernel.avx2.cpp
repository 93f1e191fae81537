// SPDX-License-Identifier: Apache-2.0

// multibit_matvec on AVX2, which has no instruction that counts bits.
#include <cstring>

#include "kernel.h"

#include "parallel.h"
#include "scratch.h"
#include "simd/avx2.h"

namespace bittern::avx2 {

#include "../binary_conv2d/lookups.inl.h"

#include "combine.inl.h"

#include "parts.inl.h"

#include "packed.inl.h"

const MultibitMatvecKernels multibit_matvec_kernels = {packed_bytes, prepare_packed, multiply_packed};

}  // namespace bittern::avx2
