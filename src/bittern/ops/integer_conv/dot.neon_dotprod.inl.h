// SPDX-License-Identifier: Apache-2.0

// Products of four bytes, four at a time (SDOT), for ARM CPUs that have it. Sums wrap, so that only the last
// one must fit. Included inside namespace neon_dotprod.

namespace {

struct Dot {
  using Number = i8;  // of an image
  using Weight = i8;
  using Sum = int32x4_t;
  static constexpr int kPack = 4;
  static constexpr i64 kLanes = 4;
  static i32 centre(i64) { return 0; }  // what is added to each number of an image
  static Sum zero() { return vdupq_n_s32(0); }
  static Sum load(const i32* p) { return vld1q_s32(p); }
  static int8x16_t weights(const Weight* p) { return vld1q_s8(p); }
  static int8x16_t spread(const Number* p) {
    i32 four;
    std::memcpy(&four, p, sizeof four);
    return vreinterpretq_s8_s32(vdupq_n_s32(four));
  }
  static Sum step(Sum sum, int8x16_t w, int8x16_t x) { return vdotq_s32(sum, w, x); }
  static void store(i32* to, Sum sum) { vst1q_s32(to, sum); }
};

}  // namespace
