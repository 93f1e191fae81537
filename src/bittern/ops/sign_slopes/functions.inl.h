// SPDX-License-Identifier: Apache-2.0

// Sine, cosine and exponential of vectors, by polynomials fitted in double (least squares, reweighted until
// the largest error is least). Included inside the namespace of one instruction set, after its simd header.

namespace {

// pi = kPi1 + kPi2 + kPi3 up to 4e-15; the first two have 11 bits, so that products with up to 2^13 turns are
// exact.
constexpr float kPi1 = 3.140625f, kPi2 = 0.0009675025939941406f, kPi3 = 1.5099580252808664e-07f;
constexpr float kHalfPi = 1.57079632679f, kHalfPiRest = -4.37113883e-08f;
constexpr float kMostTurns = 8192.0f;
constexpr float kLargestAngle = kMostTurns * kPi1;

// A number as the sum of two floats, the second a rounding error of the first.
struct Pair {
  F32 high, low;
};

BITTERN_INLINE F32 negative(F32 x) {
  return subtract(splat(0.0f), x);
}

BITTERN_INLINE Pair product(F32 a, F32 b) {
  const F32 high = multiply(a, b);
  return {high, multiply_add(a, b, negative(high))};
}

// angle = turns * pi + rest with |rest| <= pi / 2; sine and cosine change their sign with every turn.
struct Reduced {
  Pair rest;
  F32 sign;
};

// For |angle| <= kLargestAngle.
BITTERN_INLINE Reduced reduced(Pair angle) {
  const F32 turns = floor_of(multiply_add(angle.high, splat(0.318309886f), splat(0.5f)));
  const F32 near = subtract_product(subtract_product(angle.high, turns, splat(kPi1)), turns, splat(kPi2));
  const F32 correction = subtract_product(angle.low, turns, splat(kPi3));
  const F32 high = add(near, correction), half = multiply(turns, splat(0.5f));
  const F32 low = add(subtract(near, high), correction);
  return {{high, low}, select(greater(half, floor_of(half)), splat(-1.0f), splat(1.0f))};
}

// sin(x) for |x| <= pi / 2, to 5e-9 and its rounding.
BITTERN_INLINE F32 sine_near_zero(F32 x) {
  const F32 t = multiply(x, x);
  F32 p = splat(2.60886115e-06f);
  p = multiply_add(p, t, splat(-1.98110831e-04f));
  p = multiply_add(p, t, splat(8.33308780e-03f));
  p = multiply_add(p, t, splat(-1.66666605e-01f));
  return multiply_add(multiply(x, t), p, x);
}

BITTERN_INLINE F32 sine(Pair angle) {
  const Reduced r = reduced(angle);
  return multiply(r.sign, sine_near_zero(r.rest.high));
}

BITTERN_INLINE F32 cosine(Pair angle) {
  const Reduced r = reduced(angle);
  const F32 rest = absolute(r.rest.high);
  return multiply(r.sign, sine_near_zero(add(subtract(splat(kHalfPi), rest), splat(kHalfPiRest))));
}

// f of every lane, for the few numbers that a vector function does not take.
template <class Function>
F32 each_lane(F32 x, Function f) {
  float lanes[kLanes];
  store(lanes, x);
  for (i64 i = 0; i < kLanes; ++i) lanes[i] = static_cast<float>(f(static_cast<double>(lanes[i])));
  return load(lanes);
}

// Angles that `reduced` does not take.
BITTERN_INLINE Mask too_large(F32 angle) {
  return either(greater(absolute(angle), splat(kLargestAngle)), not_finite(angle));
}

// fast(x) but where `large`: there exact(x), in double. A lane's result does not depend on the others.
template <class Fast, class Exact>
BITTERN_INLINE F32 choose(F32 x, Mask large, Fast fast, Exact exact) {
  if (!any(large)) return fast(x);
  return select(large, each_lane(x, exact), fast(select(large, splat(0.0f), x)));
}

BITTERN_INLINE F32 sine(F32 x) {
  return choose(
      x, too_large(x), [](F32 angle) { return sine(Pair{angle, splat(0.0f)}); },
      [](double lane) { return __builtin_sin(lane); });
}

BITTERN_INLINE F32 cosine(F32 x) {
  return choose(
      x, too_large(x), [](F32 angle) { return cosine(Pair{angle, splat(0.0f)}); },
      [](double lane) { return __builtin_cos(lane); });
}

// exp(z) for -100 <= z <= 0, 0 where z < -87, NaN for NaN. ln 2 = kLn2 + kLn2Rest, whose first has 12 bits.
constexpr float kLn2 = 0.693115234375f, kLn2Rest = 3.194618329871446e-05f;
constexpr float kLeastExponent = -87.0f;

BITTERN_INLINE F32 exponential(Pair z) {
  const F32 k = floor_of(multiply_add(z.high, splat(1.44269504f), splat(0.5f)));
  const F32 r = add(subtract_product(z.high, k, splat(kLn2)), subtract_product(z.low, k, splat(kLn2Rest)));
  F32 p = splat(1.39506e-03f);
  p = multiply_add(p, r, splat(8.36895e-03f));
  p = multiply_add(p, r, splat(4.16662e-02f));
  p = multiply_add(p, r, splat(1.6666518e-01f));
  p = multiply_add(p, r, splat(5.0000001e-01f));
  p = add(splat(1.0f), multiply_add(p, multiply(r, r), r));
  const I32 scale = multiply(add(to_int(k), splat(i32{127})), splat(i32{1 << 23}));
  return select(greater(splat(kLeastExponent), z.high), splat(0.0f), multiply(p, from_bits(scale)));
}

}  // namespace
