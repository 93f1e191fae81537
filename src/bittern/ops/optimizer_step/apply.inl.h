// SPDX-License-Identifier: Apache-2.0

// One block, whatever its storage and length: three loops that keep it in the first-level cache decode its
// states, apply the rule and find the new absmax, encode. Included inside the namespace of one instruction
// set, after blocks, the block codecs and the rules.

namespace {

template <class R>
inline Code code_of(int state, i64 bits) {
  const bool has_sign = R::kSigned >> state & 1u;
  if (bits == 8) return has_sign ? Code::signed_tree8 : Code::state_tree8;
  return has_sign ? Code::signed_tree4 : Code::unsigned_linear4;
}

// The float32 numbers of a block: where they lie already if that is possible, else copies.
struct Operands {
  float *param, *state[kMostStates];
  const float* grad;
  bool direct_param, direct_state;  // the latter of states that are numbers
};

// Whether the states of a tensor are those of log_codes.
inline bool is_logarithmic(const StepCall& call, const StepTensor& t) {
  return t.bits == 4 && (call.at_random & 4) != 0;
}

// Whether the squares of a tensor are entries of a table that are rounded at random.
inline bool has_random_squares(const StepCall& call, const StepTensor& t) {
  return t.bits == 8 && (call.at_random & 8) != 0;
}

inline u64 state_seed(const StepCall& call, const StepTensor& t) {
  return call.state_seeds[call.state_seed_count > 1 ? &t - call.tensors : 0];
}

// Whether state k is stored as numbers, not as codes.
template <class R>
inline bool is_numbers(const StepTensor& t, int k) {
  return t.bits == 32 || (R::kExact >> k & 1u);
}

// The parameters and gradients of a block.
inline Operands load_numbers(const StepTensor& t, const Block& b, const Workspace& w) {
  const DType param_type = static_cast<DType>(t.dtypes & 15), grad_type = static_cast<DType>(t.dtypes >> 4);
  const bool whole = b.n % kLanes == 0;
  Operands o{};
  o.direct_param = whole && param_type == DType::f32;
  o.param = o.direct_param ? static_cast<float*>(t.param) + b.start : w.param;
  if (!o.direct_param) widen_to(w.param, t.param, param_type, b.start, b.n);
  o.grad = w.grad;
  if (whole && grad_type == DType::f32) {
    o.grad = static_cast<const float*>(t.grad) + b.start;
  } else {
    widen_to(w.grad, t.grad, grad_type, b.start, b.n);
  }
  return o;
}

template <class R>
inline Operands load_block(const StepCall& call, const StepTensor& t, const Block& b, const Workspace& w) {
  Operands o = load_numbers(t, b, w);
  o.direct_state = b.n % kLanes == 0;
  const bool logarithmic = is_logarithmic(call, t);
  if (logarithmic) decode_logarithmic<R>(t, b, w);
  for (int k = 0; k < R::kStates; ++k) {
    const bool numbers = is_numbers<R>(t, k), direct = o.direct_state && numbers;
    o.state[k] = direct ? static_cast<float*>(t.state[k]) + b.start : w.state[k];
    if (direct) continue;
    if (numbers) {
      widen_to(w.state[k], t.state[k], DType::f32, b.start, b.n);
    } else if (!logarithmic) {
      decode_block(code_of<R>(k, t.bits), static_cast<const u8*>(t.state[k]) + b.codes, t.absmax[k][b.index],
                   w.state[k], b.n);
      zero_padding(w.state[k], b.n);
    }
  }
  return o;
}

// Makes signed states 0 where the square that gates them decodes to 0.
template <class R>
inline void gate(F32* s) {
  if constexpr (R::kGate >= 0) {
    const F32 zero = splat(0.0f);
    const Mask none = equal(s[R::kGate], zero);
    BITTERN_UNROLL
    for (int k = 0; k < R::kStates; ++k) {
      if (R::kSigned >> k & 1u) s[k] = select(none, zero, s[k]);
    }
  }
}

// The states of kLanes elements at i of a block, which are numbers. kGated: they were codes.
template <class R, bool kGated>
struct LoadedStates {
  const Operands& o;

  BITTERN_INLINE void operator()(F32* s, i64 i) const {
    BITTERN_UNROLL
    for (int k = 0; k < R::kStates; ++k) s[k] = load(o.state[k] + i);
    if constexpr (kGated) gate<R>(s);
  }
};

template <class R>
inline Mask unusable(F32 g, const F32* s) {
  if constexpr (R::kStates == 0) return not_finite(g);
  bool first = true;
  Mask bad{};
  BITTERN_UNROLL
  for (int k = 0; k < R::kStates; ++k) {
    if ((R::kCheck >> k & 1u) == 0) continue;
    bad = first ? not_finite(s[k]) : either(bad, not_finite(s[k]));
    first = false;
  }
  return bad;
}

// Applies the rule to n elements, rounded up to whole vectors, of the states that `states` finds; absmax[k]
// becomes the largest |state k| if asked for.
template <class R, bool kAbsmax, class States>
inline void apply(const R& rule, const Operands& o, const States& states, i64 n, float scale, float* absmax) {
  const F32 factor = splat(scale);
  F32 largest[kMostStates];
  for (int k = 0; k < kMostStates; ++k) largest[k] = splat(0.0f);
  for (i64 i = 0; i < n; i += kLanes) {
    const F32 p = load(o.param + i), g = multiply(load(o.grad + i), factor);
    F32 s[R::kStates + 1], old[R::kStates + 1];
    states(s, i);
    BITTERN_UNROLL
    for (int k = 0; k < R::kStates; ++k) old[k] = s[k];
    F32 moved = rule(p, g, s);
    const Mask bad = unusable<R>(g, s);
    if (any(bad)) {
      moved = select(bad, p, moved);
      for (int k = 0; k < R::kStates; ++k) s[k] = select(bad, old[k], s[k]);
    }
    store(o.param + i, moved);
    BITTERN_UNROLL
    for (int k = 0; k < R::kStates; ++k) {
      store(o.state[k] + i, s[k]);
      if (kAbsmax) largest[k] = maximum(R::kSigned >> k & 1u ? absolute(s[k]) : s[k], largest[k]);
    }
  }
  for (int k = 0; k < R::kStates; ++k) absmax[k] = largest_lane(largest[k]);
}

template <class R>
inline void store_block(const StepCall& call, const StepTensor& t, const Block& b, const Operands& o,
                        const float* absmax, const Workspace& w) {
  if (!o.direct_param) store_param(call, t, static_cast<DType>(t.dtypes & 15), o.param, b.start, b.n);
  const bool logarithmic = is_logarithmic(call, t);
  if (logarithmic) encode_logarithmic<R>(t, b, state_seed(call, t), absmax, w);
  for (int k = 0; k < R::kStates; ++k) {
    if (is_numbers<R>(t, k)) {
      if (o.direct_state) continue;
      std::memcpy(static_cast<float*>(t.state[k]) + b.start, o.state[k],
                  static_cast<size_t>(b.n) * sizeof(float));
    } else if (!(R::kSigned >> k & 1u) && has_random_squares(call, t)) {
      store_square_at_random(t, b, k, state_seed(call, t), absmax[k], w);
    } else if (!logarithmic) {
      t.absmax[k][b.index] = absmax[k] >= kLeastAbsmax ? absmax[k] : 0.0f;
      encode_block(code_of<R>(k, t.bits), o.state[k], b.n, absmax[k], static_cast<u8*>(t.state[k]) + b.codes);
    }
  }
}

}  // namespace
