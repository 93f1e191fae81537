// SPDX-License-Identifier: Apache-2.0

// The update rules over vectors, in the order of rules.py. Included inside the namespace of one instruction
// set.
//
// A rule is built from its scalars, in the order of SPECS, and called with vectors of the parameter, the
// gradient and the states; it returns the new parameter and replaces the states. A sum of a product is one
// fused multiply-add. Results are therefore the same on every instruction set.

namespace {

// g + weight_decay * p, and the running mean and square of it: what Adam and its family share.
struct Moments {
  F32 beta1, beta1_rest, beta2, beta2_rest;

  explicit Moments(const float* s)
      : beta1(splat(s[1])), beta1_rest(splat(s[2])), beta2(splat(s[3])), beta2_rest(splat(s[4])) {}

  F32 mean(F32 m, F32 g) const { return multiply_add(beta1, m, multiply(beta1_rest, g)); }
  F32 square(F32 v, F32 g) const { return multiply_add(beta2, v, multiply(beta2_rest, multiply(g, g))); }
};

template <int kCount>
struct StateCount {
  static constexpr int kStates = kCount;
  static constexpr u32 kRelative = 0, kSlow = 0, kExact = 0;
};

// Bit k of kSigned: state k can be negative. kGate: the state, a square, where whose 0 a signed state is 0 as
// well; -1 for none. Bit k of kCheck: state k shows whether the gradient was finite (a finite square implies
// the rest). Bit k of kRelative: state k is as large as the root of the gate; of kSlow: state k averages over
// many steps; of kExact: state k is float32 in every storage (and not in kSigned, which tells of codes).
struct Sgd : StateCount<0> {
  static constexpr u32 kSigned = 0;
  static constexpr u32 kCheck = 0;
  static constexpr int kGate = -1;
  F32 lr, decay;
  explicit Sgd(const float* s) : lr(splat(s[1])), decay(splat(s[2])) {}
  F32 operator()(F32 p, F32 g, F32*) const { return subtract_product(p, lr, multiply_add(decay, p, g)); }
};

template <bool kNesterov>
struct Momentum : StateCount<1> {
  static constexpr u32 kSigned = 1;
  static constexpr u32 kCheck = 1;
  static constexpr int kGate = -1;
  F32 lr, momentum, weight, decay;
  explicit Momentum(const float* s)
      : lr(splat(s[1])), momentum(splat(s[2])), weight(splat(s[3])), decay(splat(s[4])) {}
  F32 operator()(F32 p, F32 g, F32* s) const {
    g = multiply_add(decay, p, g);
    s[0] = multiply_add(momentum, s[0], multiply(weight, g));
    const F32 u = kNesterov ? multiply_add(momentum, s[0], g) : s[0];
    return subtract_product(p, lr, u);
  }
};

// kCoupled: the weight decay is part of the gradient; without one that would be a product with 0.
template <bool kLargest, bool kCoupled>
struct Adam : StateCount<kLargest ? 3 : 2> {
  static constexpr u32 kSigned = 1;
  static constexpr u32 kCheck = 2;
  static constexpr u32 kRelative = 1;
  static constexpr int kGate = 1;
  Moments moments;
  F32 step, correction, eps, decay, keep;
  explicit Adam(const float* s)
      : moments(s),
        step(splat(s[5])),
        correction(splat(s[6])),
        eps(splat(s[7])),
        decay(splat(s[8])),
        keep(splat(s[9])) {}
  F32 operator()(F32 p, F32 g, F32* s) const {
    if constexpr (kCoupled) g = multiply_add(decay, p, g);
    s[0] = moments.mean(s[0], g);
    s[1] = moments.square(s[1], g);
    F32 v = s[1];
    if constexpr (kLargest) v = s[2] = maximum(s[2], v);
    const F32 denominator = multiply_add(square_root(v), correction, eps);
    return subtract_product(multiply(p, keep), step, divide(s[0], denominator));
  }
};

struct NAdam : StateCount<2> {
  static constexpr u32 kSigned = 1;
  static constexpr u32 kCheck = 2;
  static constexpr u32 kRelative = 1;
  static constexpr int kGate = 1;
  Moments moments;
  F32 gradient_step, momentum_step, correction, eps, decay, keep;
  explicit NAdam(const float* s)
      : moments(s),
        gradient_step(splat(s[5])),
        momentum_step(splat(s[6])),
        correction(splat(s[7])),
        eps(splat(s[8])),
        decay(splat(s[9])),
        keep(splat(s[10])) {}
  F32 operator()(F32 p, F32 g, F32* s) const {
    g = multiply_add(decay, p, g);
    s[0] = moments.mean(s[0], g);
    s[1] = moments.square(s[1], g);
    const F32 denominator = multiply_add(square_root(s[1]), correction, eps);
    const F32 mixed = multiply_add(gradient_step, g, multiply(momentum_step, s[0]));
    return subtract(multiply(p, keep), divide(mixed, denominator));
  }
};

template <bool kAdaptive>
struct RAdam : StateCount<2> {
  static constexpr u32 kSigned = 1;
  static constexpr u32 kCheck = 2;
  static constexpr u32 kRelative = 1;
  static constexpr int kGate = 1;
  Moments moments;
  F32 step, eps, decay, keep;
  explicit RAdam(const float* s)
      : moments(s), step(splat(s[5])), eps(splat(s[7])), decay(splat(s[8])), keep(splat(s[9])) {}
  F32 operator()(F32 p, F32 g, F32* s) const {
    g = multiply_add(decay, p, g);
    s[0] = moments.mean(s[0], g);
    s[1] = moments.square(s[1], g);
    const F32 u = kAdaptive ? divide(s[0], add(square_root(s[1]), eps)) : s[0];
    return subtract_product(multiply(p, keep), step, u);
  }
};

struct Adagrad : StateCount<1> {
  static constexpr u32 kSigned = 0;
  static constexpr u32 kCheck = 1;
  static constexpr int kGate = -1;
  F32 step, eps, decay;
  explicit Adagrad(const float* s) : step(splat(s[1])), eps(splat(s[2])), decay(splat(s[3])) {}
  F32 operator()(F32 p, F32 g, F32* s) const {
    g = multiply_add(decay, p, g);
    s[0] = multiply_add(g, g, s[0]);
    return subtract_product(p, step, divide(g, add(square_root(s[0]), eps)));
  }
};

template <bool kCentered, bool kHeavy>
struct RmsProp : StateCount<1 + kCentered + kHeavy> {
  static constexpr u32 kSigned = 6;
  static constexpr u32 kCheck = 1 | (kHeavy ? 2 << kCentered : 0);
  static constexpr u32 kRelative = kCentered ? 2 : 0;
  static constexpr int kGate = 0;
  F32 lr, alpha, rest, eps, decay, momentum;
  explicit RmsProp(const float* s)
      : lr(splat(s[1])),
        alpha(splat(s[2])),
        rest(splat(s[3])),
        eps(splat(s[4])),
        decay(splat(s[5])),
        momentum(splat(s[6])) {}
  F32 operator()(F32 p, F32 g, F32* s) const {
    g = multiply_add(decay, p, g);
    s[0] = multiply_add(alpha, s[0], multiply(rest, multiply(g, g)));
    F32 variance = s[0];
    if constexpr (kCentered) {
      s[1] = multiply_add(alpha, s[1], multiply(rest, g));
      variance = maximum(subtract_product(variance, s[1], s[1]), splat(0.0f));
    }
    F32 scaled = divide(g, add(square_root(variance), eps));
    if constexpr (kHeavy) scaled = s[1 + kCentered] = multiply_add(momentum, s[1 + kCentered], scaled);
    return subtract_product(p, lr, scaled);
  }
};

struct Lion : StateCount<1> {
  static constexpr u32 kSigned = 1;
  static constexpr u32 kCheck = 1;
  static constexpr int kGate = -1;
  F32 lr;
  Moments moments;  // beta2 mixes the gradient itself, not its square
  F32 keep;
  explicit Lion(const float* s) : lr(splat(s[1])), moments(s + 1), keep(splat(s[6])) {}
  F32 operator()(F32 p, F32 g, F32* s) const {
    const F32 mixed = moments.mean(s[0], g), zero = splat(0.0f);
    s[0] = multiply_add(moments.beta2, s[0], multiply(moments.beta2_rest, g));
    p = multiply(p, keep);
    const F32 down = select(greater(mixed, zero), lr, zero), up = select(greater(zero, mixed), lr, zero);
    return add(subtract(p, down), up);
  }
};

struct AdEmaMix : StateCount<3> {
  static constexpr u32 kSigned = 3;
  static constexpr u32 kCheck = 4;
  static constexpr u32 kRelative = 1, kSlow = 2;
  static constexpr int kGate = 2;
  Moments moments;
  F32 beta3, beta3_rest, alpha, correction1, correction2, eps, lr, keep;
  explicit AdEmaMix(const float* s)
      : moments(s),
        beta3(splat(s[5])),
        beta3_rest(splat(s[6])),
        alpha(splat(s[7])),
        correction1(splat(s[8])),
        correction2(splat(s[9])),
        eps(splat(s[10])),
        lr(splat(s[11])),
        keep(splat(s[12])) {}
  F32 operator()(F32 p, F32 g, F32* s) const {
    s[0] = moments.mean(s[0], g);
    s[1] = multiply_add(beta3, s[1], multiply(beta3_rest, g));
    s[2] = moments.square(s[2], g);
    const F32 denominator = multiply_add(square_root(s[2]), correction2, eps);
    const F32 mixed = multiply_add(alpha, s[1], multiply(s[0], correction1));
    return subtract_product(multiply(p, keep), lr, divide(mixed, denominator));
  }
};

struct Adan : StateCount<4> {
  static constexpr u32 kSigned = 11;
  static constexpr u32 kCheck = 5;
  static constexpr u32 kRelative = 11;
  static constexpr int kGate = 2;
  Moments moments;  // beta2 mixes the difference of gradients
  F32 beta3, beta3_rest, correction1, correction2, correction3, eps, lr, keep, shrink, has_previous;
  explicit Adan(const float* s)
      : moments(s),
        beta3(splat(s[5])),
        beta3_rest(splat(s[6])),
        correction1(splat(s[7])),
        correction2(splat(s[8])),
        correction3(splat(s[9])),
        eps(splat(s[10])),
        lr(splat(s[11])),
        keep(splat(s[12])),
        shrink(splat(s[13])),
        has_previous(splat(s[14])) {}
  F32 operator()(F32 p, F32 g, F32* s) const {
    const F32 d = multiply(subtract(g, s[3]), has_previous);
    s[0] = moments.mean(s[0], g);
    s[1] = multiply_add(moments.beta2, s[1], multiply(moments.beta2_rest, d));
    const F32 look = multiply_add(moments.beta2, d, g);
    s[2] = multiply_add(beta3, s[2], multiply(beta3_rest, multiply(look, look)));
    s[3] = g;
    const F32 denominator = multiply_add(square_root(s[2]), correction3, eps);
    const F32 mixed = multiply_add(moments.beta2, multiply(s[1], correction2), multiply(s[0], correction1));
    return multiply(subtract_product(multiply(p, keep), lr, divide(mixed, denominator)), shrink);
  }
};

struct Adadelta : StateCount<2> {
  static constexpr u32 kSigned = 0;
  static constexpr u32 kCheck = 3;
  static constexpr int kGate = -1;
  F32 lr, rho, rest, eps, decay;
  explicit Adadelta(const float* s)
      : lr(splat(s[1])), rho(splat(s[2])), rest(splat(s[3])), eps(splat(s[4])), decay(splat(s[5])) {}
  F32 operator()(F32 p, F32 g, F32* s) const {
    g = multiply_add(decay, p, g);
    s[0] = multiply_add(rho, s[0], multiply(rest, multiply(g, g)));
    const F32 ratio = divide(square_root(add(s[1], eps)), square_root(add(s[0], eps)));
    const F32 delta = multiply(ratio, g);
    s[1] = multiply_add(rho, s[1], multiply(rest, multiply(delta, delta)));
    return subtract_product(p, lr, delta);
  }
};

struct Adamax : StateCount<2> {
  static constexpr u32 kSigned = 1;
  static constexpr u32 kCheck = 3;  // the maximum may drop a NaN
  static constexpr u32 kRelative = 1;
  static constexpr int kGate = 1;
  F32 beta1, rest, beta2, step, eps, decay;
  explicit Adamax(const float* s)
      : beta1(splat(s[1])),
        rest(splat(s[2])),
        beta2(splat(s[3])),
        step(splat(s[4])),
        eps(splat(s[5])),
        decay(splat(s[6])) {}
  F32 operator()(F32 p, F32 g, F32* s) const {
    g = multiply_add(decay, p, g);
    s[0] = multiply_add(beta1, s[0], multiply(rest, g));
    s[1] = maximum(multiply(beta2, s[1]), add(absolute(g), eps));
    return subtract_product(p, step, divide(s[0], s[1]));
  }
};

struct Rprop : StateCount<2> {
  static constexpr u32 kSigned = 1;
  static constexpr u32 kCheck = 1;
  static constexpr int kGate = 1;
  F32 minus, plus, least, most;
  explicit Rprop(const float* s)
      : minus(splat(s[1])), plus(splat(s[2])), least(splat(s[3])), most(splat(s[4])) {}
  F32 operator()(F32 p, F32 g, F32* s) const {
    const F32 zero = splat(0.0f), one = splat(1.0f);
    const F32 sign = subtract(select(greater(g, zero), one, zero), select(greater(zero, g), one, zero));
    const F32 before =
        subtract(select(greater(s[0], zero), one, zero), select(greater(zero, s[0]), one, zero));
    const F32 agreed = multiply(sign, before);
    const Mask turned = greater(zero, agreed);
    const F32 factor = select(greater(agreed, zero), plus, select(turned, minus, one));
    const F32 size = maximum(multiply(s[1], factor), least);
    s[1] = select(greater(size, most), most, size);
    // the product is NaN, and shows it, where the gradient is not finite
    s[0] = multiply_add(g, zero, select(turned, zero, sign));
    return subtract_product(p, s[0], s[1]);
  }
};

template <bool kAveraged>
struct Asgd : StateCount<1> {
  static constexpr u32 kSigned = 0;
  static constexpr u32 kCheck = 1;
  static constexpr u32 kExact = 1;
  static constexpr int kGate = -1;
  F32 eta, share, decay, keep;
  explicit Asgd(const float* s)
      : eta(splat(s[1])), share(splat(s[2])), decay(splat(s[3])), keep(splat(s[4])) {}
  F32 operator()(F32 p, F32 g, F32* s) const {
    g = multiply_add(decay, p, g);
    p = subtract_product(multiply(p, keep), eta, g);
    s[0] = kAveraged ? multiply_add(share, subtract(p, s[0]), s[0]) : p;
    return p;
  }
};

// y + mix (z - y) - y_step u, and z - lr u: what both schedule-free rules do with their direction u.
struct Sequences {
  F32 decay, lr, y_step, mix;
  explicit Sequences(const float* s)
      : decay(splat(s[0])), lr(splat(s[1])), y_step(splat(s[2])), mix(splat(s[3])) {}
  F32 moved(F32 y, F32& z, F32 u) const {
    y = subtract_product(multiply_add(mix, subtract(z, y), y), y_step, u);
    z = subtract_product(z, lr, u);
    return y;
  }
};

struct ScheduleFreeAdamW : StateCount<2> {
  static constexpr u32 kSigned = 0;
  static constexpr u32 kCheck = 3;
  static constexpr u32 kExact = 2;
  static constexpr int kGate = -1;
  F32 beta2, rest, correction, eps;
  Sequences sequences;
  explicit ScheduleFreeAdamW(const float* s)
      : beta2(splat(s[1])), rest(splat(s[2])), correction(splat(s[3])), eps(splat(s[4])), sequences(s + 5) {}
  F32 operator()(F32 p, F32 g, F32* s) const {
    s[0] = multiply_add(beta2, s[0], multiply(rest, multiply(g, g)));
    const F32 scaled = divide(g, multiply_add(square_root(s[0]), correction, eps));
    return sequences.moved(p, s[1], multiply_add(sequences.decay, p, scaled));
  }
};

struct ScheduleFreeSgd : StateCount<1> {
  static constexpr u32 kSigned = 0;
  static constexpr u32 kCheck = 1;
  static constexpr u32 kExact = 1;
  static constexpr int kGate = -1;
  Sequences sequences;
  explicit ScheduleFreeSgd(const float* s) : sequences(s + 1) {}
  F32 operator()(F32 p, F32 g, F32* s) const {
    return sequences.moved(p, s[0], multiply_add(sequences.decay, p, g));
  }
};

// Rules with a trust ratio. `ratio` is known only after a pass over the whole tensor, which needs the squares
// of the two norms: of p and of direction().
struct Lamb : StateCount<2> {
  static constexpr bool kDirectionOfStates = true;
  static constexpr u32 kSigned = 1;
  static constexpr u32 kCheck = 2;
  static constexpr u32 kRelative = 1;
  static constexpr int kGate = 1;
  Moments moments;
  F32 correction1, correction2, eps, decay, step;
  Lamb(const float* s, float ratio)
      : moments(s),
        correction1(splat(s[5])),
        correction2(splat(s[6])),
        eps(splat(s[7])),
        decay(splat(s[8])),
        step(splat(s[9] * ratio)) {}
  F32 direction(F32 p, F32 g, F32* s) const {
    s[0] = moments.mean(s[0], g);
    s[1] = moments.square(s[1], g);
    const F32 denominator = multiply_add(square_root(s[1]), correction2, eps);
    return multiply_add(decay, p, divide(multiply(s[0], correction1), denominator));
  }
  F32 operator()(F32 p, F32 g, F32* s) const { return subtract_product(p, step, direction(p, g, s)); }
  static float ratio(const float* s, float p_norm, float norm) {
    const float r = p_norm > 0 && norm > 0 ? p_norm / norm : 1.0f;
    return s[10] > 0 && r > s[10] ? s[10] : r;
  }
};

struct Lars : StateCount<1> {
  static constexpr bool kDirectionOfStates = false;
  static constexpr u32 kSigned = 1;
  static constexpr u32 kCheck = 1;
  static constexpr int kGate = -1;
  F32 step, momentum, weight, decay, nesterov;
  Lars(const float* s, float ratio)
      : step(splat(s[1] * ratio)),
        momentum(splat(s[2])),
        weight(splat(s[3])),
        decay(splat(s[4])),
        nesterov(splat(s[7])) {}
  F32 direction(F32, F32 g, F32*) const { return g; }
  F32 operator()(F32 p, F32 g, F32* s) const {
    const F32 moved = multiply(step, multiply_add(decay, p, g));
    s[0] = multiply_add(momentum, s[0], multiply(weight, moved));
    const F32 ahead = multiply_add(momentum, s[0], moved);
    return subtract(p, select(greater(nesterov, splat(0.0f)), ahead, s[0]));
  }
  static float ratio(const float* s, float p_norm, float norm) {
    float r = 1.0f;
    if (p_norm > 0 && norm > 0) r = s[5] * p_norm / (norm + s[4] * p_norm + s[6]);
    return s[8] > 0 && r > s[8] ? s[8] : r;
  }
};

}  // namespace
