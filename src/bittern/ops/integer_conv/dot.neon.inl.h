// SPDX-License-Identifier: Apache-2.0

// Products at 16 bits, four at a time (SMLAL), for every 64-bit ARM. Included inside namespace neon.

namespace {

struct Dot {
  using Number = i16;  // of an image, zero point taken off
  using Weight = i16;  // as tiles take them; they are stored as bytes
  using Sum = int32x4_t;
  static constexpr int kPack = 1;
  static constexpr i64 kLanes = 4;
  static i32 centre(i64 zero) { return static_cast<i32>(-zero); }  // what is added to each number of an image
  static Sum zero() { return vdupq_n_s32(0); }
  static Sum load(const i32* p) { return vld1q_s32(p); }
  static int16x4_t weights(const Weight* p) { return vld1_s16(p); }
  static int16x4_t weights(const i8* p) {
    u32 four;
    std::memcpy(&four, p, sizeof four);
    return vget_low_s16(vmovl_s8(vcreate_s8(four)));
  }
  static int16x4_t spread(const Number* p) { return vld1_dup_s16(p); }
  static Sum step(Sum sum, int16x4_t w, int16x4_t x) { return vmlal_s16(sum, w, x); }
  static void store(i32* to, Sum sum) { vst1q_s32(to, sum); }
};

}  // namespace
