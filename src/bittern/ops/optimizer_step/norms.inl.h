// SPDX-License-Identifier: Apache-2.0

// The two norms of a rule with a trust ratio: of the parameter and of the direction. Included inside the
// namespace of one instruction set, after apply and squares.
//
// They cost a pass over the tensor of their own, which writes nothing, since the first element can move only
// when the last one is known. The norm of the parameter could be gathered while the step before writes it;
// but nothing proves that nobody changed it since (Tensor.data leaves no trace), and the pass reads the
// parameter anyhow wherever weight decay is part of the direction.

namespace {

// Sums of squares of one task.
struct Squares {
  double param, direction;
};

// Sixteen sums side by side, whatever the width of the vectors, so that every instruction set adds in one
// order: element i of a block goes to sum i % 16.
struct SquareSums {
  static constexpr int kParts = static_cast<int>(16 / kLanes);
  F64 of[kParts];

  SquareSums() {
    for (int part = 0; part < kParts; ++part) of[part] = splat(0.0);
  }
  BITTERN_INLINE void take(int part, F32 x) { of[part] = add_square(of[part], x); }
  double total() const {
    double sums[16], all = 0;
    for (int part = 0; part < kParts; ++part) store_sums(sums + part * kLanes, of[part]);
    for (double sum : sums) all += sum;
    return all;
  }
};

// What `states` is where a direction needs none.
struct NoStates {};

template <class States>
constexpr bool has_states = !std::is_same_v<States, NoStates>;

// The directions of kLanes elements; 0 of those that the step will skip. s: their states.
template <class R, class States>
BITTERN_INLINE F32 direction_of(const R& rule, F32 p, F32 g, F32* s) {
  const F32 direction = rule.direction(p, g, s);
  Mask skipped = not_finite(g);
  if constexpr (has_states<States>) skipped = either(skipped, unusable<R>(g, s));
  return select(skipped, splat(0.0f), direction);
}

// Sixteen elements at a time: what is looked up for one vector goes on while another waits for the divider.
template <class R, class States>
inline Squares squares_of(const R& rule, const Operands& o, const States& states, i64 n, F32 scale) {
  constexpr int kParts = SquareSums::kParts;
  SquareSums params, directions;
  F32 s[kParts][R::kStates], p[kParts], direction[kParts];
  i64 i = 0;
  for (; i + 16 <= n; i += 16) {
    BITTERN_UNROLL
    for (int part = 0; part < kParts; ++part)
      if constexpr (has_states<States>) states(s[part], i + part * kLanes);
    BITTERN_UNROLL
    for (int part = 0; part < kParts; ++part) {
      const i64 at = i + part * kLanes;
      p[part] = load(o.param + at);
      direction[part] = direction_of<R, States>(rule, p[part], multiply(load(o.grad + at), scale), s[part]);
    }
    BITTERN_UNROLL
    for (int part = 0; part < kParts; ++part) {
      params.take(part, p[part]);
      directions.take(part, direction[part]);
    }
  }
  for (int part = 0; i < n; i += kLanes, ++part) {
    if constexpr (has_states<States>) states(s[0], i);
    p[0] = load(o.param + i);
    const F32 d = direction_of<R, States>(rule, p[0], multiply(load(o.grad + i), scale), s[0]);
    const Mask there = greater(splat(static_cast<float>(n - i)), to_float(ascending(0)));
    params.take(part, p[0]);  // 0 behind the last one
    directions.take(part, select(there, d, splat(0.0f)));
  }
  return {params.total(), directions.total()};
}

// Of a block whose states are decoded first, if they are codes.
template <class R>
inline Squares squares_of_loaded(const StepCall& call, const StepTensor& t, const R& rule, const Block& b,
                                 F32 scale, const Workspace& w) {
  const Operands o = load_block<R>(call, t, b, w);
  if (t.bits == 32) return squares_of(rule, o, LoadedStates<R, false>{o}, b.n, scale);
  return squares_of(rule, o, LoadedStates<R, true>{o}, b.n, scale);
}

// Of a block in codes, whose direction needs no states: those are finite unless an absmax is not.
template <class R>
inline Squares squares_without_states(const StepTensor& t, const R& rule, const Block& b, F32 scale,
                                      const Workspace& w) {
  Squares found = squares_of(rule, load_numbers(t, b, w), NoStates{}, b.n, scale);
  for (int k = 0; k < R::kStates; ++k)
    if ((R::kCheck >> k & 1u) && any(not_finite(splat(t.absmax[k][b.index])))) found.direction = 0;
  return found;
}

}  // namespace
