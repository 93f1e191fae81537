// SPDX-License-Identifier: Apache-2.0

// A real convolution and the maxima over windows of its results, which are never all there at once.
#pragma once

#include "isa.h"
#include "pool_images/kernel.h"
#include "real_conv/kernel.h"

namespace bittern {

// pool: maxima, without an affine map; its x and conv's out are not used.
void real_conv_pool(Isa isa, const RealConv& conv, const PoolImages& pool, int threads);

}  // namespace bittern
