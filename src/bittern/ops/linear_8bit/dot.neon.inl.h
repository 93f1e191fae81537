// SPDX-License-Identifier: Apache-2.0

// Products of int8, sixteen at a time, for every 64-bit ARM. Codes of the input are at most 127 in magnitude
// and numbers of the weight at most 128, so that two products (32,512) fit into 16 bits; SMULL and SMLAL2
// form them, SADALP adds them to 32 bits. Included inside namespace neon.

namespace {

struct DotI8 {
  using In = std::int8_t;
  using Sum = int32x4_t;
  static constexpr i64 kStep = 16;
  static constexpr i32 kShift = 0;  // what is added to each number of the weight
  static inline Sum zero() { return vdupq_n_s32(0); }
  static inline int8x16_t load_in(const In* p) { return vld1q_s8(p); }
  static inline Sum step(Sum sum, int8x16_t w, int8x16_t x) {
    return vpadalq_s16(sum, vmlal_high_s8(vmull_s8(vget_low_s8(w), vget_low_s8(x)), w, x));
  }
  static inline i32 total(Sum sum) { return vaddvq_s32(sum); }
};

}  // namespace
