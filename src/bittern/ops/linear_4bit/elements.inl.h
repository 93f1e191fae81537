// SPDX-License-Identifier: Apache-2.0

// One element of the inputs and results of a linear layer, of any of its types. Included inside the namespace
// of one instruction set, after its simd header.

namespace {

inline float widened(const void* x, DType type, i64 i) {
  if (type == DType::f32) return static_cast<const float*>(x)[i];
  if (type == DType::bf16) return widen(static_cast<const bf16*>(x)[i]);
  return widen(static_cast<const f16*>(x)[i]);
}

inline void store_as(void* out, DType type, i64 i, float x) {
  if (type == DType::f32) {
    static_cast<float*>(out)[i] = x;
  } else if (type == DType::bf16) {
    static_cast<bf16*>(out)[i] = rounded_bf16(x);
  } else {
    static_cast<f16*>(out)[i] = narrow(x);
  }
}

}  // namespace
