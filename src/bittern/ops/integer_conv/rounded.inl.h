// SPDX-License-Identifier: Apache-2.0

// Sums times fixed-point factors. Included inside the namespace of one instruction set, after its fixed-point
// numbers.

namespace {

// The factors of some neighbouring output channels, and what they make of their sums, as endings want it.
struct RoundedTwice {
  Factors f;
  static RoundedTwice of(const i32* multiplier, const i32* shift) { return {factors(multiplier, shift)}; }
  Lanes operator()(Lanes x) const { return times(x, f); }
};
struct RaisedAndRounded {
  Factors f;
  const i32* shift;
  static RaisedAndRounded of(const i32* multiplier, const i32* shift) {
    return {factors(multiplier, shift), shift};
  }
  Lanes operator()(Lanes x) const { return times(raised(x, shift), f); }
};
struct RoundedOnce {
  OnceFactors f;
  static RoundedOnce of(const i32* multiplier, const i32* shift) { return {once_factors(multiplier, shift)}; }
  Lanes operator()(Lanes x) const { return times_once(x, f); }
};

}  // namespace
