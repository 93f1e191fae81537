// SPDX-License-Identifier: Apache-2.0

// Runs of whole blocks with 8-bit states to nearest, parameters and gradients being both float32 or both
// bfloat16. Included inside namespace avx512, after norms.inl.h.
//
// A block goes through two passes: one decodes the states, applies the rule and keeps the new states as
// float32 in the first-level cache; one encodes them. The absmax that the second pass needs is the last thing
// that the first one finds, so a block waits until the first pass of the next block is done: its encoding
// then starts without waiting for a maximum and a division, while the divider still works on the last vectors
// of the rule.
//
// What limits both passes is the number of 64-byte operations, of which the lookups of the codecs are most,
// and loads of 64 bytes, of which there is one per clock. Hence: numbers that stay in registers from codes to
// new states; gates on codes, not on numbers; whether a state is finite asked once per 64 elements, of the
// maximum that is needed anyhow; and tables that are loaded once for 128 elements where registers suffice.
//
// Memory is asked for ahead of the first pass: while the second one computes, and at each end of a page, the
// hardware's own prefetching of so many streams pauses.

namespace {

constexpr i64 kDecoded = 64;       // elements that the first pass takes at a time
constexpr i64 kAhead = 384;        // elements from those to the ones that are asked for
constexpr int kEncodedChunks = 2;  // 64s that the second one takes
constexpr i64 kEncoded = 64 * kEncodedChunks;

// Whole blocks that follow each other in memory; a code is a byte, so one offset serves all arrays. T: the
// type of parameters and gradients.
template <class T>
struct Run {
  T* param;
  const T* grad;
  u8* codes[kMostStates];
  float* absmax[kMostStates];
  i64 block, count;
};

// Whole blocks from b on, up to `end` or the next shorter one.
template <class R, class T>
inline Run<T> run_from(const StepTensor& t, const Block& b, i64 end) {
  Run<T> run;
  run.param = static_cast<T*>(t.param) + b.start;
  run.grad = static_cast<const T*>(t.grad) + b.start;
  for (int k = 0; k < R::kStates; ++k) {
    run.codes[k] = static_cast<u8*>(t.state[k]) + b.codes;
    run.absmax[k] = t.absmax[k] + b.index;
  }
  run.block = t.block;
  run.count = t.row % t.block == 0 ? end - b.index : smaller((t.row - b.offset) / t.block, end - b.index);
  return run;
}

template <class R>
constexpr bool has_sign(int state) {
  return R::kSigned >> state & 1u;
}

template <int kStates>
struct Trees {
  const TreeTables* of[kStates];
};

template <class R>
inline Trees<R::kStates> trees_of() {
  Trees<R::kStates> trees;
  for (int k = 0; k < R::kStates; ++k) trees.of[k] = &tree_tables(code_of<R>(k, 8));
  return trees;
}

template <int kStates>
struct States {
  float* of[kStates];
};

template <int kStates>
struct Vectors {
  F32 of[kStates];
};

// Asks for 64 numbers from the start-th on. They may lie behind the last one: a prefetch reads nothing.
// Always inline, for GCC drops calls of functions that only prefetch.
template <class T>
BITTERN_INLINE void fetch_64(const T* numbers, i64 start) {
  const std::uintptr_t at = reinterpret_cast<std::uintptr_t>(numbers) + static_cast<u64>(start) * sizeof(T);
  BITTERN_UNROLL
  for (u64 line = 0; line < 64 * sizeof(T); line += 64)
    _mm_prefetch(reinterpret_cast<const char*>(at + line), _MM_HINT_T0);
}

// ---- parameters

BITTERN_INLINE void store_64(float* out, const F32* x) {
  BITTERN_UNROLL
  for (int j = 0; j < 4; ++j) store(out + 16 * j, x[j]);
}

// The upper half of each number in its lower half: bits + 0x7fff and one more where the bit that stays last
// is set, so to nearest, ties to even; NaN quiet.
BITTERN_INLINE __m512i rounded_upper(F32 x) {
  const __m512i bits = _mm512_castps_si512(x);
  const __m512i last = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), last);
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const __mmask16 nan = _mm512_cmp_ps_mask(x, x, _CMP_UNORD_Q);
  return _mm512_srli_epi32(_mm512_mask_mov_epi32(rounded, nan, quiet), 16);
}

BITTERN_INLINE void store_64(bf16* out, const F32* x) {
  const __m512i straight = _mm512_setr_epi64(0, 2, 4, 6, 1, 3, 5, 7);
  BITTERN_UNROLL
  for (int j = 0; j < 4; j += 2) {  // packs work within 128 bits
    const __m512i both = _mm512_packus_epi32(rounded_upper(x[j]), rounded_upper(x[j + 1]));
    _mm512_storeu_si512(out + 16 * j, _mm512_permutexvar_epi64(straight, both));
  }
}

// 64 numbers as float32 where those are; others are copied there and, when this goes, back.
template <class T>
struct Floats {
  explicit Floats(T* numbers) : numbers(numbers) { widen_to(memory, numbers, DType::bf16, 0, kDecoded); }
  float* data() { return memory; }
  void write_back() { store_rounded(numbers, memory, kDecoded); }

  T* numbers;
  alignas(64) float memory[kDecoded];
};
template <>
struct Floats<float> {
  explicit Floats(float* numbers) : numbers(numbers) {}
  float* data() { return numbers; }
  void write_back() {}

  float* numbers;
};

// ---- first pass

template <class R>
struct Decoded {
  Floats64 of[R::kStates];
};

// Values of the codes of 64 elements at `start`; a signed one is 0 where the square that gates it has the
// code of 0, or stands for 0 because its whole block (`none`) does.
template <class R, class T>
BITTERN_INLINE Decoded<R> decode_64(const Trees<R::kStates>& trees, const Run<T>& run, i64 start,
                                    __mmask64 none) {
  __m512i codes[R::kStates];
  BITTERN_UNROLL
  for (int k = 0; k < R::kStates; ++k) codes[k] = before_interleave(_mm512_loadu_si512(run.codes[k] + start));
  if constexpr (R::kGate >= 0) none |= ~_mm512_test_epi8_mask(codes[R::kGate], codes[R::kGate]);
  Decoded<R> values;
  BITTERN_UNROLL
  for (int k = 0; k < R::kStates; ++k)
    values.of[k] = has_sign<R>(k) ? signed_tree_values(*trees.of[k], codes[k], none)
                                  : tree_values(*trees.of[k], codes[k]);
  return values;
}

// Largest magnitudes as bits, which order as the numbers do, with infinite and NaN above all others.
template <class R>
struct Largest {
  __m512i of[R::kStates];
};

template <class R>
BITTERN_INLINE void enlarge(Largest<R>& largest, const F32* s) {
  BITTERN_UNROLL
  for (int k = 0; k < R::kStates; ++k) {
    __m512i bits = _mm512_castps_si512(s[k]);
    if (has_sign<R>(k)) bits = _mm512_and_si512(bits, _mm512_set1_epi32(0x7fffffff));
    largest.of[k] = _mm512_max_epu32(largest.of[k], bits);
  }
}

template <class R>
BITTERN_INLINE bool all_finite(const Largest<R>& largest) {
  Mask bad = 0;
  BITTERN_UNROLL
  for (int k = 0; k < R::kStates; ++k)
    if (R::kCheck >> k & 1u) bad |= not_finite(_mm512_castsi512_ps(largest.of[k]));
  return bad == 0;
}

// The rule on 64 elements, the i-th of a block and following, the block being at `start`. False, with the
// parameters as they were, if a new state is not finite.
template <class R, bool kScaled, class T>
BITTERN_INLINE bool apply_64(const R& rule, const Trees<R::kStates>& trees, const Run<T>& run,
                             const Vectors<R::kStates>& absmax, F32 scale, __mmask64 none,
                             const States<R::kStates>& fresh, i64 start, i64 i, Largest<R>& largest) {
  const Decoded<R> values = decode_64<R>(trees, run, start + i, none);
  F32 moved[4];
  BITTERN_UNROLL
  for (int j = 0; j < 4; ++j) {
    const i64 at = start + i + 16 * j;
    F32 s[R::kStates], g = load(run.grad + at);
    if (kScaled) g = multiply(g, scale);
    BITTERN_UNROLL
    for (int k = 0; k < R::kStates; ++k) s[k] = multiply(values.of[k].part[j], absmax.of[k]);
    moved[j] = rule(load(run.param + at), g, s);
    enlarge<R>(largest, s);
    BITTERN_UNROLL
    for (int k = 0; k < R::kStates; ++k) store(fresh.of[k] + i + 16 * j, s[k]);
  }
  if (!all_finite<R>(largest)) return false;
  store_64(run.param + start + i, moved);
  return true;
}

// The same where elements must stay as they are; returns the largest magnitudes of them and those before.
template <class R, class T>
__attribute__((noinline)) Largest<R> apply_64_carefully(const R& rule, const Run<T>& run, i64 block,
                                                        float scale, States<R::kStates> fresh, i64 i,
                                                        Largest<R> largest) {
  const i64 at = block * run.block + i;
  Floats<T> param(run.param + at), grad(const_cast<T*>(run.grad) + at);
  Operands o;
  o.param = param.data();
  o.grad = grad.data();
  for (int k = 0; k < R::kStates; ++k) {
    o.state[k] = fresh.of[k] + i;
    decode_block(code_of<R>(k, 8), run.codes[k] + at, run.absmax[k][block], o.state[k], kDecoded);
  }
  float found[kMostStates];
  apply<R, true>(rule, o, LoadedStates<R, true>{o}, kDecoded, scale, found);
  param.write_back();
  for (int k = 0; k < R::kStates; ++k)
    largest.of[k] = _mm512_max_epu32(largest.of[k], _mm512_castps_si512(splat(found[k])));
  return largest;
}

// ---- second pass

// Encoders of the states from k on, which take their parts in turn: each waits long for its lookups.
template <int kStates, u32 kSigned, int k = 0>
struct Encoders {
  TreeEncoder<(kSigned >> k & 1u) != 0, kEncodedChunks> mine;
  Encoders<kStates, kSigned, k + 1> rest;

  BITTERN_INLINE void split(const States<kStates>& waiting, i64 i, const Vectors<kStates>& inverse) {
    mine.split(waiting.of[k] + i, inverse.of[k]);
    rest.split(waiting, i, inverse);
  }
  BITTERN_INLINE void guess(const Trees<kStates>& trees) {
    mine.guess(*trees.of[k]);
    rest.guess(trees);
  }
  BITTERN_INLINE void compare(const Trees<kStates>& trees) {
    mine.compare(*trees.of[k]);
    rest.compare(trees);
  }
  BITTERN_INLINE void write(u8* const* codes, i64 at) const {
    BITTERN_UNROLL
    for (int c = 0; c < kEncodedChunks; ++c) _mm512_storeu_si512(codes[k] + at + 64 * c, mine.codes(c));
    rest.write(codes, at);
  }
};
template <int kStates, u32 kSigned>
struct Encoders<kStates, kSigned, kStates> {
  BITTERN_INLINE void split(const States<kStates>&, i64, const Vectors<kStates>&) {}
  BITTERN_INLINE void guess(const Trees<kStates>&) {}
  BITTERN_INLINE void compare(const Trees<kStates>&) {}
  BITTERN_INLINE void write(u8* const*, i64) const {}
};

// Encodes the waiting states of the block at `start`.
template <int kStates, u32 kSigned>
__attribute__((noinline)) void encode_states(const Trees<kStates>& trees, u8* const* codes, i64 block,
                                             const States<kStates>& waiting, const Vectors<kStates>& inverse,
                                             i64 start) {
  for (i64 i = 0; i < block; i += kEncoded) {
    Encoders<kStates, kSigned> encoders;
    encoders.split(waiting, i, inverse);
    encoders.guess(trees);
    encoders.compare(trees);
    encoders.write(codes, start + i);
  }
}

// ---- both

template <class R, bool kScaled, class T>
inline void step_run(const R& given_rule, const Run<T>& given_run, float factor, States<R::kStates> fresh,
                     States<R::kStates> waiting) {
  // copies whose addresses stay here, so that they can stay in registers
  const R rule = given_rule;
  const Run<T> run = given_run;
  const Trees<R::kStates> trees = trees_of<R>();
  Vectors<R::kStates> inverse{}, absmax;
  for (i64 b = 0; b < run.count; ++b) {
    const i64 start = b * run.block;
    Largest<R> largest;
    BITTERN_UNROLL
    for (int k = 0; k < R::kStates; ++k) {
      largest.of[k] = _mm512_setzero_si512();
      absmax.of[k] = splat(run.absmax[k][b]);
    }
    __mmask64 none = 0;
    if constexpr (R::kGate >= 0) none = run.absmax[R::kGate][b] == 0 ? ~0ull : 0;
    for (i64 i = 0; i < run.block; i += kDecoded) {
      const Largest<R> before = largest;
      const i64 ahead = start + i + kAhead;
      fetch_64(run.param, ahead);
      fetch_64(run.grad, ahead);
      BITTERN_UNROLL
      for (int k = 0; k < R::kStates; ++k) fetch_64(run.codes[k], ahead);
      if (!apply_64<R, kScaled>(rule, trees, run, absmax, splat(factor), none, fresh, start, i, largest))
        largest = apply_64_carefully(given_rule, given_run, b, factor, fresh, i, before);
    }
    if (b > 0)
      encode_states<R::kStates, R::kSigned>(trees, given_run.codes, run.block, waiting, inverse,
                                            start - run.block);
    BITTERN_UNROLL
    for (int k = 0; k < R::kStates; ++k) {
      const float most = largest_lane(_mm512_castsi512_ps(largest.of[k]));
      run.absmax[k][b] = most >= kLeastAbsmax ? most : 0.0f;
      inverse.of[k] = splat(inverse_of(most));
    }
    const States<R::kStates> swapped = fresh;
    fresh = waiting;
    waiting = swapped;
  }
  encode_states<R::kStates, R::kSigned>(trees, given_run.codes, run.block, waiting, inverse,
                                        (run.count - 1) * run.block);
}

// Steps whole blocks from b on, if they are stored for it; returns their number.
template <class R>
inline i64 step_whole_blocks(const StepCall& call, const StepTensor& t, const R& rule, const Block& b,
                             i64 end, float scale, const Workspace& w) {
  if constexpr (R::kStates > 0 && R::kExact == 0) {
    constexpr i64 kFloats = static_cast<i64>(DType::f32), kHalves = 17 * static_cast<i64>(DType::bf16);
    const bool halves = t.dtypes == kHalves && !call.stochastic && t.compensation == nullptr;
    if (t.bits != 8 || has_random_squares(call, t) || t.block % kEncoded != 0 || b.n != t.block) return 0;
    States<R::kStates> fresh, waiting;
    for (int k = 0; k < R::kStates; ++k) {
      fresh.of[k] = w.state[k];
      waiting.of[k] = w.waiting[k];
    }
    if (halves) {
      const Run<bf16> run = run_from<R, bf16>(t, b, end);
      step_run<R, true>(rule, run, scale, fresh, waiting);
      return run.count;
    }
    if (t.dtypes != kFloats) return 0;
    const Run<float> run = run_from<R, float>(t, b, end);
    if (scale == 1) {
      step_run<R, false>(rule, run, scale, fresh, waiting);
    } else {
      step_run<R, true>(rule, run, scale, fresh, waiting);
    }
    return run.count;
  }
  return 0;
}

// Of a block in codes, whose direction needs them.
template <class R>
inline Squares squares_of_codes(const StepCall& call, const StepTensor& t, const R& rule, const Block& b,
                                F32 scale, const Workspace& w) {
  return squares_of_loaded(call, t, rule, b, scale, w);
}

}  // namespace
