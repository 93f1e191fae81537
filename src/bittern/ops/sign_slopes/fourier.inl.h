// SPDX-License-Identifier: Apache-2.0

// The slope of a truncated Fourier series, for kernels of this op and of adapted_sign. Included inside the
// namespace of one instruction set, after functions.inl.h.

namespace {

// With m terms and theta = omega |x| the series is sin(2 m theta) / (2 sin theta). Theta is taken to the
// nearest multiple of pi, with every one of which the sum changes its sign; then 2 m theta is that many times
// the rest.
constexpr double kPi = 3.14159265358979323846;

inline double series(double size, double omega, i64 terms) {
  const double m = static_cast<double>(terms), angle = omega * size,
               turns = __builtin_floor(angle / kPi + 0.5);
  const double theta = angle - turns * kPi;
  const double total = theta == 0 ? m : __builtin_sin(2 * m * theta) / (2 * __builtin_sin(theta));
  return __builtin_floor(turns / 2) * 2 == turns ? total : -total;
}

// Where 2 m theta <= 8 the slope, with its wave, is a polynomial of u = 2 (x / reach)^2 - 1, u in [-1, 1],
// through its values at Chebyshev's nodes: ten coefficients come within half a rounding of its largest value.
constexpr int kTerms = 10;
constexpr double kMostAngle = 8.0, kMostReach = 3.0, kLeastReach = 1e-6;

struct NearSlope {
  float reach;  // -1: nowhere
  float per_square;
  float coefficients[kTerms];
};

inline void to_powers(const double* chebyshev, float* powers) {
  // T_0 = 1, T_1 = u, T_(k+1) = 2 u T_k - T_(k-1)
  double before[kTerms] = {1.0}, now[kTerms] = {0.0, 1.0}, sum[kTerms] = {chebyshev[0]};
  for (int k = 1; k < kTerms; ++k) {
    double next[kTerms];
    for (int i = 0; i < kTerms; ++i) {
      sum[i] += chebyshev[k] * now[i];
      next[i] = (i > 0 ? 2.0 * now[i - 1] : 0.0) - before[i];
    }
    for (int i = 0; i < kTerms; ++i) before[i] = now[i], now[i] = next[i];
  }
  for (int i = 0; i < kTerms; ++i) powers[i] = static_cast<float>(sum[i]);
}

inline NearSlope near_slope(const FourierSlope& s) {
  double reach = kMostAngle / (2.0 * s.omega * static_cast<double>(s.terms));
  if (!(reach < kMostReach)) reach = kMostReach;
  if (!(reach < static_cast<double>(s.limit))) reach = static_cast<double>(s.limit);
  if (s.rising || !(reach > kLeastReach)) return {-1.0f, 0.0f, {}};
  double values[kTerms], chebyshev[kTerms];
  for (int i = 0; i < kTerms; ++i) {
    const double u = __builtin_cos(kPi * (i + 0.5) / kTerms), x = reach * __builtin_sqrt(0.5 * (u + 1.0));
    values[i] =
        4.0 * s.omega / kPi * series(x, s.omega, s.terms) + static_cast<double>(s.wave) * __builtin_cos(x);
  }
  for (int k = 0; k < kTerms; ++k) {
    chebyshev[k] = 0.0;
    for (int i = 0; i < kTerms; ++i) chebyshev[k] += values[i] * __builtin_cos(kPi * k * (i + 0.5) / kTerms);
    chebyshev[k] *= (k == 0 ? 1.0 : 2.0) / kTerms;
  }
  NearSlope near{static_cast<float>(reach), static_cast<float>(2.0 / (reach * reach)), {}};
  to_powers(chebyshev, near.coefficients);
  return near;
}

class FourierRule {
 public:
  explicit FourierRule(const FourierSlope& slope)
      : slope_(slope),
        near_(near_slope(slope)),
        omega_(static_cast<float>(slope.omega / kPi)),
        omega_rest_(static_cast<float>(slope.omega / kPi - static_cast<double>(omega_))),
        twice_(static_cast<float>(2 * slope.terms)),
        largest_(static_cast<float>(kLargestAngle / (slope.omega * static_cast<double>(2 * slope.terms)))),
        half_scale_(static_cast<float>(2 * slope.omega / kPi)) {}

  BITTERN_INLINE F32 apply(F32 grad, F32 x) const {
    constexpr u32 kAll = static_cast<u32>((u64{1} << kLanes) - 1);
    const F32 size = absolute(x), reach = splat(near_.reach);
    if (at_least(reach, size) == kAll) return multiply(grad, polynomial(x));
    const Mask is_near = either(greater(reach, size), equal(reach, size));
    return multiply(grad, select(is_near, polynomial(x), anywhere(x)));
  }

 private:
  // The slope where |x| <= reach.
  BITTERN_INLINE F32 polynomial(F32 x) const {
    const F32 u = multiply_add(multiply(x, x), splat(near_.per_square), splat(-1.0f));
    F32 value = splat(near_.coefficients[kTerms - 1]);
    BITTERN_UNROLL
    for (int k = kTerms - 2; k >= 0; --k) value = multiply_add(value, u, splat(near_.coefficients[k]));
    return value;
  }

  // The slope of any x. No part of a loop that stays near 0.
  __attribute__((noinline)) F32 anywhere(F32 x) const {
    const F32 size = absolute(x), zero = splat(0.0f), limit = splat(slope_.limit);
    const Mask inside = either(greater(limit, size), equal(limit, size));
    F32 value = select(inside, sum(select(inside, size, zero)), zero);
    if (slope_.rising) value = maximum(value, zero);
    if (slope_.wave != 0.0f) value = multiply_add(splat(slope_.wave), cosine(x), value);
    return value;
  }

  // The sum where no angle is too large.
  BITTERN_INLINE F32 quotient(F32 size) const {
    const Turns theta = turns(size, splat(omega_), splat(omega_rest_)),
                many = turns(theta.rest, splat(twice_));
    const F32 total = divide(sine_of_rest(many.rest), sine_of_rest(theta.rest));
    // below it the sum is 2 m to the last digit, and the sines may be subnormal
    const Mask tiny = greater(splat(1e-20f), absolute(theta.rest));
    const F32 found = select(tiny, splat(twice_), turned(total, many.whole));
    return multiply(splat(half_scale_), turned(found, theta.whole));
  }

  // The sum for 0 <= size <= limit.
  BITTERN_INLINE F32 sum(F32 size) const {
    const double w = slope_.omega;
    const i64 m = slope_.terms;
    return choose(
        size, greater(size, splat(largest_)), [this](F32 lanes) { return quotient(lanes); },
        [w, m](double lane) { return 4 * w / kPi * series(lane, w, m); });
  }

  FourierSlope slope_;
  NearSlope near_;
  float omega_, omega_rest_, twice_, largest_, half_scale_;
};

// sign(x) + noise.
BITTERN_INLINE F32 sign_with(F32 x, F32 noise) {
  const F32 zero = splat(0.0f);
  return add(select(either(greater(x, zero), equal(x, zero)), splat(1.0f), splat(-1.0f)), noise);
}

}  // namespace
