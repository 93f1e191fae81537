// SPDX-License-Identifier: Apache-2.0
#include "kernel.h"

#include "parallel.h"
#include "scratch.h"
#include "set_files.h"
#include BITTERN_SIMD

namespace bittern::BITTERN_SET {
#include "combine.inl.h"

#include "parts.inl.h"

#include "products.inl.h"

const MultibitMatvecKernels multibit_matvec_kernels = {product_bytes, prepare_products, multiply_products};
}  // namespace bittern::BITTERN_SET
