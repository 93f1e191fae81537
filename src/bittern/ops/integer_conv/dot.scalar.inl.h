// SPDX-License-Identifier: Apache-2.0

// Products one at a time. Included inside the namespace of the instruction set.

namespace {

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

}  // namespace
