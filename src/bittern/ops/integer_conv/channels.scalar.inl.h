// SPDX-License-Identifier: Apache-2.0

// Sums of each channel by itself. Included inside namespace scalar.

namespace {

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

#include "channels.inl.h"
