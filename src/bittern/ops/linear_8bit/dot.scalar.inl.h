// SPDX-License-Identifier: Apache-2.0

// Products of int8, one at a time. Included inside namespace scalar.

namespace {

struct DotI8 {
  using In = std::int8_t;
  using Sum = i32;
  static constexpr i64 kStep = 1;
  static constexpr i32 kShift = 0;  // what is added to each number of the weight
  static inline Sum zero() { return 0; }
  static inline i32 load_in(const In* p) { return *p; }
  static inline Sum step(Sum sum, i32 w, i32 x) { return sum + w * x; }
  static inline i32 total(Sum sum) { return sum; }
};

}  // namespace
