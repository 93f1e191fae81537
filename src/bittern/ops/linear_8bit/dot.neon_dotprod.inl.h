// SPDX-License-Identifier: Apache-2.0

// Products of int8, sixteen at a time (SDOT), for ARM CPUs that have it. Included inside namespace
// neon_dotprod.

namespace {

struct DotI8 {
  using In = std::int8_t;
  using Sum = int32x4_t;
  static constexpr i64 kStep = 16;
  static constexpr i32 kShift = 0;  // what is added to each number of the weight
  static inline Sum zero() { return vdupq_n_s32(0); }
  static inline int8x16_t load_in(const In* p) { return vld1q_s8(p); }
  static inline Sum step(Sum sum, int8x16_t w, int8x16_t x) { return vdotq_s32(sum, w, x); }
  static inline i32 total(Sum sum) { return vaddvq_s32(sum); }
};

}  // namespace
