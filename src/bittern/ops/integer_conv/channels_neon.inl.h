// SPDX-License-Identifier: Apache-2.0

// Sums over taps of 16 channels at once. Included inside namespace neon or neon_dotprod.

namespace {

struct Channels {
  static constexpr i64 kTaps = 1;  // to a multiple of which their weights are filled up
  static i64 place(i64 tap, i64 channel) { return tap * 16 + channel; }
  static inline void sum(const i16* x, const i64* offsets, i64 taps, const i16* w, i32* sums) {
    int32x4_t all[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
    for (i64 t = 0; t < taps; ++t, w += 16) {
      for (int half = 0; half < 2; ++half) {
        const int16x8_t a = vld1q_s16(x + offsets[t] + 8 * half), b = vld1q_s16(w + 8 * half);
        all[2 * half] = vmlal_s16(all[2 * half], vget_low_s16(a), vget_low_s16(b));
        all[2 * half + 1] = vmlal_high_s16(all[2 * half + 1], a, b);
      }
    }
    for (int v = 0; v < 4; ++v) vst1q_s32(sums + 4 * v, all[v]);
  }
};

}  // namespace
