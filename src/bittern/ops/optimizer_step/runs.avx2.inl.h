// SPDX-License-Identifier: Apache-2.0

// Whole blocks whose states have 8 bits or are those of log_codes. Included inside namespace avx2, after
// norms.inl.h.
//
// Those of log_codes take two passes: one decodes the states, applies the rule and leaves in the first-level
// cache what has to be encoded, the means as ratios already, for the root of a square is at hand there; one
// encodes. The first is bound by the divider (a root and two divisions per element of Adam), so the random
// bits, which the second needs, are drawn there.

namespace {

template <class R>
constexpr bool has_sign(int k) {
  return R::kSigned >> k & 1u;
}
template <class R>
constexpr bool is_relative(int k) {
  return has_sign<R>(k) && (R::kRelative >> k & 1u);
}
template <class R>
constexpr bool is_slow(int k) {
  return R::kSlow >> k & 1u;
}

// A table of 16 numbers per state.
template <class R>
struct StateTables {
  NibbleTables of[R::kStates];

  StateTables(const StepTensor& t, const Block& b) {
    for (int k = 0; k < R::kStates; ++k)
      if (!has_sign<R>(k)) square_levels(t.absmax[k] + 2 * b.index, of[k]);
    for (int k = 0; k < R::kStates; ++k) {
      const float scale = t.absmax[k][b.index];
      if (is_relative<R>(k)) {
        ratio_units(of[kSquareOf<R>], scale, of[k]);
      } else if (has_sign<R>(k) && !is_slow<R>(k)) {
        const NibbleTables& tree = nibble_tables(Code::signed_tree4);
        for (int c = 0; c < 16; c += static_cast<int>(kLanes))
          store(of[k].values + c, multiply(load(tree.values + c), splat(scale)));
      }
    }
  }

  BITTERN_INLINE F32 entries(int k, __m256i code) const {
    const F32 values[2] = {load(of[k].values), load(of[k].values + 8)};
    return entries_of(values, code);
  }
};

// What the first pass finds.
template <class R>
struct LogPass {
  Range range[R::kStates];
  F32 largest[R::kStates];
};

// The random bits of states k and k + 1.
inline i32* random_of(const Workspace& w, int k) {
  return reinterpret_cast<i32*>(w.waiting[k / 2]);
}

// The states of eight elements, at i of block b; a signed one is 0 where the square that gates it is.
template <class R>
BITTERN_INLINE void decode_8(const StepTensor& t, const Block& b, const StateTables<R>& tables,
                             const Workspace& w, i64 i, F32* s) {
  __m256i code[R::kStates];
  BITTERN_UNROLL
  for (int k = 0; k < R::kStates; ++k)
    if (!is_slow<R>(k)) code[k] = nibbles_8(static_cast<const u8*>(t.state[k]) + b.codes + i / 2);
  BITTERN_UNROLL
  for (int k = 0; k < R::kStates; ++k) {
    if (is_slow<R>(k)) {
      s[k] = load(w.state[k] + i);
    } else if (is_relative<R>(k)) {
      const __m256i level = _mm256_srai_epi32(_mm256_slli_epi32(code[k], 28), 28);
      s[k] = multiply(_mm256_cvtepi32_ps(level), tables.entries(k, code[kSquareOf<R>]));
    } else {
      s[k] = tables.entries(k, code[k]);
    }
  }
  gate<R>(s);
}

// Decodes, applies the rule, and leaves squares, ratios and what else has a sign in the workspace.
template <class R>
BITTERN_INLINE void apply_logarithmic(const StepTensor& t, const R& rule, const Block& b, const Operands& o,
                                      float scale, u64 seed, const Workspace& w, LogPass<R>& pass) {
  const StateTables<R> tables(t, b);
  const F32 factor = splat(scale);
  BITTERN_UNROLL
  for (int k = 0; k < R::kStates; ++k) pass.largest[k] = splat(0.0f);
  for (i64 i = 0; i < b.n; i += kLanes) {
    F32 s[R::kStates], old[R::kStates];
    decode_8<R>(t, b, tables, w, i, s);
    BITTERN_UNROLL
    for (int k = 0; k < R::kStates; ++k) old[k] = s[k];
    BITTERN_UNROLL
    for (int k = 0; k < R::kStates; k += 2) {
      const Randoms randoms(seed + static_cast<u64>(k / 2) * kNextDraw, static_cast<u64>(b.start));
      store(random_of(w, k) + i, randoms(i));
    }
    const F32 p = load(o.param + i), g = multiply(load(o.grad + i), factor);
    F32 moved = rule(p, g, s);
    F32 root = square_root(s[kSquareOf<R>]);  // most rules have it already
    const Mask bad = unusable<R>(g, s);
    if (any(bad)) {
      moved = select(bad, p, moved);
      for (int k = 0; k < R::kStates; ++k) s[k] = select(bad, old[k], s[k]);
      root = square_root(s[kSquareOf<R>]);
    }
    store(o.param + i, moved);
    BITTERN_UNROLL
    for (int k = 0; k < R::kStates; ++k) {
      const F32 kept = is_relative<R>(k) ? ratio_of(s[k], s[kSquareOf<R>], root) : s[k];
      store(w.state[k] + i, kept);
      if (has_sign<R>(k)) {
        pass.largest[k] = maximum(absolute(kept), pass.largest[k]);
      } else {
        pass.range[k].take(kept);
      }
    }
  }
}

// Entries of the tree above or below each number (encode_by_chance).
struct TreeByChance {
  F32 inverse, values[2];
  Halves halves;

  explicit TreeByChance(float absmax) : inverse(splat(inverse_of(absmax))) {
    NibbleTables t = nibble_tables(Code::signed_tree4);
    values[0] = load(t.values);
    values[1] = load(t.values + 8);
    t.values[15] = __builtin_inff();  // the last but one is the largest below another
    halves = halves_of(t.values);
  }

  BITTERN_INLINE I32 operator()(F32 x, F32 chance) const {
    const F32 y = multiply(x, inverse);
    const __m256i below = nibble_codes(halves, y), above = _mm256_add_epi32(below, _mm256_set1_epi32(1));
    const F32 low = entries_of(values, below), high = entries_of(values, above);
    const Mask up = greater(subtract(y, low), multiply(chance, subtract(high, low)));
    return select(up, {above}, {below});
  }
};

// How a state is encoded; writes its scales.
template <class R, int k>
inline auto encoder_of(const StepTensor& t, const Block& b, const LogPass<R>& pass) {
  if constexpr (!has_sign<R>(k)) {
    return SquareEncoder(pass.range[k], t.absmax[k] + 2 * b.index);
  } else {
    const float most = largest_lane(pass.largest[k]);
    if constexpr (is_relative<R>(k)) {
      t.absmax[k][b.index] = stored_ratio(most);
      return RatioEncoder(t.absmax[k][b.index]);
    } else {
      t.absmax[k][b.index] = most >= kLeastAbsmax ? most : 0.0f;
      return TreeByChance(most);
    }
  }
}

// Encodes states k and k + 1, which share their random bits, and those behind.
template <class R, int k = 0>
inline void encode_pairs(const StepTensor& t, const Block& b, const Workspace& w, const LogPass<R>& pass) {
  if constexpr (k < R::kStates) {
    constexpr int kNext = k + 1 < R::kStates ? k + 1 : k;
    constexpr bool kFirst = !is_slow<R>(k), kSecond = kNext > k && !is_slow<R>(kNext);
    const auto first = encoder_of<R, k>(t, b, pass);
    const auto second = encoder_of<R, kNext>(t, b, pass);
    const i32* random = random_of(w, k);
    u8 *first_codes = static_cast<u8*>(t.state[k]) + b.codes,
       *second_codes = static_cast<u8*>(t.state[kNext]) + b.codes;
    for (i64 i = 0; i < b.n; i += 4 * kLanes) {
      __m256i lower[4], upper[4];
      BITTERN_UNROLL
      for (int j = 0; j < 4; ++j) {
        const i64 at = i + j * kLanes;
        const I32 bits = load(random + at);
        if constexpr (kFirst) lower[j] = first(load(w.state[k] + at), chance_of<0>(bits)).bits;
        if constexpr (kSecond) upper[j] = second(load(w.state[kNext] + at), chance_of<1>(bits)).bits;
      }
      if constexpr (kFirst)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(first_codes + i / 2), join_nibbles(lower));
      if constexpr (kSecond)
        _mm_storeu_si128(reinterpret_cast<__m128i*>(second_codes + i / 2), join_nibbles(upper));
    }
    for (int slow = k; slow <= kNext; ++slow) {
      if (!is_slow<R>(slow)) continue;
      const float most = largest_lane(pass.largest[slow]);
      t.absmax[slow][b.index] = most >= kLeastAbsmax ? most : 0.0f;
      encode_block(Code::signed_tree8, w.state[slow], b.n, most, static_cast<u8*>(t.state[slow]) + b.start);
    }
    encode_pairs<R, k + 2>(t, b, w, pass);
  }
}

// States of 8 bits, looked up where they are needed: that keeps the loads of one vector going while the
// divider works on another.
template <class R>
struct ByteStates {
  const float* values[R::kStates];
  const u8* codes[R::kStates];
  F32 factor[R::kStates];

  ByteStates(const StepTensor& t, const Block& b) {
    for (int k = 0; k < R::kStates; ++k) {
      values[k] = tree_tables(code_of<R>(k, 8)).values;
      codes[k] = static_cast<const u8*>(t.state[k]) + b.codes;
      factor[k] = splat(t.absmax[k][b.index]);
    }
  }

  BITTERN_INLINE void operator()(F32* s, i64 i) const {
    BITTERN_UNROLL
    for (int k = 0; k < R::kStates; ++k) {
      const __m256i found = look_up_8(values[k], [&](int j) { return codes[k][i + j]; });
      s[k] = multiply(_mm256_castsi256_ps(found), factor[k]);
    }
    gate<R>(s);
  }
};

// Steps block b, which is whole.
template <class R>
inline void step_logarithmic(const StepCall& call, const StepTensor& t, const R& rule, const Block& b,
                             float scale, const Workspace& w) {
  const u64 seed = state_seed(call, t);
  const Operands o = load_numbers(t, b, w);
  BITTERN_UNROLL
  for (int k = 0; k < R::kStates; ++k)
    if (is_slow<R>(k))
      decode_block(Code::signed_tree8, static_cast<const u8*>(t.state[k]) + b.start, t.absmax[k][b.index],
                   w.state[k], b.n);
  LogPass<R> pass;
  apply_logarithmic(t, rule, b, o, scale, seed, w, pass);
  encode_pairs<R>(t, b, w, pass);
  if (!o.direct_param) store_param(call, t, static_cast<DType>(t.dtypes & 15), o.param, b.start, b.n);
}

// Steps block b, which is whole and has states of 8 bits.
template <class R>
inline void step_bytes(const StepCall& call, const StepTensor& t, const R& rule, const Block& b, float scale,
                       const Workspace& w) {
  Operands o = load_numbers(t, b, w);
  for (int k = 0; k < R::kStates; ++k) o.state[k] = w.state[k];
  float absmax[kMostStates];
  apply<R, true>(rule, o, ByteStates<R>(t, b), b.n, scale, absmax);
  store_block<R>(call, t, b, o, absmax, w);
}

// Steps blocks from b on as long as they are whole and stored for it; returns their number.
template <class R>
inline i64 step_whole_blocks(const StepCall& call, const StepTensor& t, const R& rule, const Block& b,
                             i64 end, float scale, const Workspace& w) {
  i64 steps = 0;
  if constexpr (R::kStates > 0 && R::kExact == 0) {
    constexpr i64 kWhole = 4 * kLanes;  // elements whose codes are packed together
    if (is_logarithmic(call, t)) {
      for (Block at = b; at.index < end && at.n % kWhole == 0; at = after(t, at), ++steps) {
        if (!share_upper_bits(static_cast<u64>(at.start), at.n)) break;
        step_logarithmic(call, t, rule, at, scale, w);
      }
    } else if (t.bits == 8) {
      for (Block at = b; at.index < end && at.n % kLanes == 0; at = after(t, at), ++steps)
        step_bytes(call, t, rule, at, scale, w);
    }
  }
  return steps;
}

// States of log_codes, of which none is slow.
template <class R>
struct LogStates {
  const StepTensor& t;
  const Block& b;
  const Workspace& w;
  StateTables<R> tables;

  LogStates(const StepTensor& t, const Block& b, const Workspace& w) : t(t), b(b), w(w), tables(t, b) {}
  BITTERN_INLINE void operator()(F32* s, i64 i) const { decode_8<R>(t, b, tables, w, i, s); }
};

// Of a block in codes, whose direction needs them.
template <class R>
inline Squares squares_of_codes(const StepCall& call, const StepTensor& t, const R& rule, const Block& b,
                                F32 scale, const Workspace& w) {
  if (t.bits == 8 && b.n % kLanes == 0)
    return squares_of(rule, load_numbers(t, b, w), ByteStates<R>(t, b), b.n, scale);
  if (R::kSlow == 0 && is_logarithmic(call, t) && b.n % kLanes == 0)
    return squares_of(rule, load_numbers(t, b, w), LogStates<R>(t, b, w), b.n, scale);
  return squares_of_loaded(call, t, rule, b, scale, w);
}

}  // namespace
