// SPDX-License-Identifier: Apache-2.0

// Sine, cosine and exponential of vectors, by polynomials fitted in double (least squares, reweighted until
// the largest error is least). Included inside the namespace of one instruction set, after its simd header.

namespace {

// The vector functions take angles up to so many turns of pi; others are for double.
constexpr float kLargestAngle = 8192.0f * 3.14159265f;

BITTERN_INLINE F32 negative(F32 x) {
  return subtract(splat(0.0f), x);
}

// A number as the sum of two floats, the second a rounding error of the first.
struct Pair {
  F32 high, low;
};

BITTERN_INLINE Pair product(F32 a, F32 b) {
  const F32 high = multiply(a, b);
  return {high, multiply_add(a, b, negative(high))};
}

// An angle over pi as a whole number and a rest, |rest| <= 1/2 and a rounding; sine and cosine change their
// sign with each whole one. `whole` is that number in the last bits of an integer.
struct Turns {
  F32 rest;
  I32 whole;
};

// Of x * factor, below 2^22. Adding 3 * 2^22 rounds to a whole number, which the last bits of the sum are;
// the rest is then rounded once.
constexpr float kToWhole = 12582912.0f;

BITTERN_INLINE Turns turns(F32 x, F32 factor) {
  const F32 sum = multiply_add(x, factor, splat(kToWhole));
  return {multiply_add(x, factor, subtract(splat(kToWhole), sum)), to_bits(sum)};
}

// The same where `low` is what `factor` lacks.
BITTERN_INLINE Turns turns(F32 x, F32 factor, F32 low) {
  const Turns t = turns(x, factor);
  return {multiply_add(x, low, t.rest), t.whole};
}

// 1 / pi, and what the float lacks.
constexpr float kPerPi = 0.318309886f, kPerPiRest = 1.28412766e-08f;

// x, with its sign changed where `whole` is odd.
BITTERN_INLINE F32 turned(F32 x, I32 whole) {
  return from_bits(exclusive_or(to_bits(x), multiply(whole, splat(i32{-2147483647} - 1))));
}

// sin(pi r) for |r| <= 1/2, to 5e-9 and its roundings.
BITTERN_INLINE F32 sine_of_rest(F32 r) {
  const F32 t = multiply(r, r);
  F32 p = splat(7.749625019e-02f);
  p = multiply_add(p, t, splat(-5.982137384e-01f));
  p = multiply_add(p, t, splat(2.550066751f));
  p = multiply_add(p, t, splat(-5.167709789f));
  return multiply(r, multiply_add(p, t, splat(3.14159265f)));
}

// cos(pi r) for |r| <= 1/2, to 3e-10 and its roundings.
BITTERN_INLINE F32 cosine_of_rest(F32 r) {
  const F32 t = multiply(r, r);
  F32 p = splat(-2.441799560e-02f);
  p = multiply_add(p, t, splat(2.349524418e-01f));
  p = multiply_add(p, t, splat(-1.335215828f));
  p = multiply_add(p, t, splat(4.058709580f));
  p = multiply_add(p, t, splat(-4.934802156f));
  return multiply_add(p, t, splat(1.0f));
}

// f of every lane, for the few numbers that a vector function does not take.
template <class Function>
F32 each_lane(F32 x, Function f) {
  float lanes[kLanes];
  store(lanes, x);
  for (i64 i = 0; i < kLanes; ++i) lanes[i] = static_cast<float>(f(static_cast<double>(lanes[i])));
  return load(lanes);
}

// fast(x) but where `large`: there exact(x), in double. A lane's result does not depend on the others.
template <class Fast, class Exact>
BITTERN_INLINE F32 choose(F32 x, Mask large, Fast fast, Exact exact) {
  if (!any(large)) return fast(x);
  return select(large, each_lane(x, exact), fast(select(large, splat(0.0f), x)));
}

// Angles too large for `turns`; NaN is none, and stays.
BITTERN_INLINE Mask too_large(F32 angle) {
  return greater(absolute(angle), splat(kLargestAngle));
}

BITTERN_INLINE F32 sine(F32 x) {
  return choose(
      x, too_large(x),
      [](F32 angle) {
        const Turns t = turns(angle, splat(kPerPi), splat(kPerPiRest));
        return turned(sine_of_rest(t.rest), t.whole);
      },
      [](double lane) { return __builtin_sin(lane); });
}

BITTERN_INLINE F32 cosine(F32 x) {
  return choose(
      x, too_large(x),
      [](F32 angle) {
        const Turns t = turns(angle, splat(kPerPi), splat(kPerPiRest));
        return turned(cosine_of_rest(t.rest), t.whole);
      },
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
