// SPDX-License-Identifier: Apache-2.0

// Sums of some pairs of numbers. Included inside the namespace of one instruction set, after exact.inl.h.

namespace {

constexpr i64 kTogether = 32;
using Sum = ExactSum;

inline Sum sum_of(const IntegerAdd& s) {
  return exact_sum(s);
}

void sum_some(const IntegerAdd& s, const Sum& sum, const i8* a, const i8* b, i8* out) {
  sum_32(s, sum, a, b, out);
}

}  // namespace
