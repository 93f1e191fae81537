// SPDX-License-Identifier: Apache-2.0

// Products one at a time, and how much stays in registers. Included inside the namespace of the instruction
// set.

namespace {

constexpr int kPixels = 2, kMostVectors = 16, kHalfVectors = 16;
constexpr bool kFinishesTiles = false;  // from registers, not from memory
constexpr bool kReadsNibbles = false;   // weights of 4 bits, in tiles

struct Dot {
  using Number = i16;  // of an image, zero point taken off
  using Weight = i8;
  using Sum = i32;
  static constexpr int kPack = 1;
  static constexpr i64 kLanes = 1;
  static i32 centre(i64 zero) { return static_cast<i32>(-zero); }  // what is added to each number of an image
  static Sum zero() { return 0; }
  static Sum load(const i32* p) { return *p; }
  static i32 weights(const Weight* p) { return *p; }
  static i32 spread(const Number* p) { return *p; }
  static Sum step(Sum sum, i32 w, i32 x) { return sum + w * x; }
  static void store(i32* to, Sum sum) { *to = sum; }
};

// Sums over taps of 16 channels at once.
struct Channels {
  static constexpr i64 kTaps = 1;  // to a multiple of which their weights are filled up
  static i64 place(i64 tap, i64 channel) { return tap * 16 + channel; }
  static void sum(const i16* x, const i64* offsets, i64 taps, const i16* w, i32* sums) {
    for (int i = 0; i < 16; ++i) sums[i] = 0;
    for (i64 t = 0; t < taps; ++t) {
      for (int i = 0; i < 16; ++i) sums[i] += i32{x[offsets[t] + i]} * w[t * 16 + i];
    }
  }
};

}  // namespace
