// SPDX-License-Identifier: Apache-2.0

// ApproxSign's slope, for kernels of this op and of shifted_sign. Included inside the namespace of one
// instruction set, after its simd header.

namespace {

// grad * max(0, 2 - 2|x|)
struct ApproxRule {
  BITTERN_INLINE F32 apply(F32 grad, F32 x) const {
    const F32 size = absolute(x);  // twice it is exact; the order of the maximum keeps a NaN
    return multiply(grad, maximum(splat(0.0f), subtract(splat(2.0f), add(size, size))));
  }
};

}  // namespace
