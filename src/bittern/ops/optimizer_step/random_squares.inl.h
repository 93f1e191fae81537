// SPDX-License-Identifier: Apache-2.0

// Squares of 8 bits that are rounded at random (random_squares.py). Included inside the namespace of one
// instruction set, after log_codes, whose random bits they share.
//
// Entries are looked up by plain loads, as in the AVX2 codec, whatever the instruction set: what surrounds
// the lookups is in vectors.

namespace {

// Numbers of a pass: what it stores in small pieces has left the store buffer when the next one loads it
// whole.
constexpr i64 kSquaresPass = 128;

struct Neighbours {
  alignas(64) float y[kSquaresPass], below[kSquaresPass], width[kSquaresPass];
  alignas(64) i32 code[kSquaresPass];
};

inline void find_below(const EntriesBelow& entries, i64 n, Neighbours& s) {
  for (i64 i = 0; i < n; ++i) {
    const u32 bits = float_bits(s.y[i]);
    u32 code = (entries.codes.entry[bits >> 16] + (bits & 0xffffu)) >> 16;
    __asm__("" : "+r"(code));  // no gather
    s.code[i] = static_cast<i32>(code);
    s.below[i] = entries.values[code];
    s.width[i] = entries.widths[code];
  }
}

// Codes of n squares, whose largest is `absmax`. Reads up to whole vectors of them.
template <int kUpper>
inline void encode_squares_at_random(const float* v, i64 n, float absmax, const i32* random, u8* codes) {
  const EntriesBelow& entries = entries_below();
  const F32 inverse = splat(inverse_of(absmax));
  Neighbours s;
  for (i64 i = 0; i < n; i += kSquaresPass) {
    const i64 count = smaller(kSquaresPass, n - i);
    for (i64 j = 0; j < count; j += kLanes) store(s.y + j, multiply(load(v + i + j), inverse));
    find_below(entries, round_up(count, kLanes), s);
    for (i64 j = 0; j < count; j += kLanes) {
      const I32 code = load(s.code + j);
      const F32 share = multiply(chance_of<kUpper>(load(random + i + j)), load(s.width + j));
      const Mask up = greater(subtract(load(s.y + j), load(s.below + j)), share);
      store(s.code + j, select(up, add(code, splat(1)), code));
    }
    for (i64 j = 0; j < count; ++j) codes[i + j] = static_cast<u8>(s.code[j]);
  }
}

// Square k of a block, from the workspace, and its absmax.
inline void store_square_at_random(const StepTensor& t, const Block& b, int k, u64 seed, float absmax,
                                   const Workspace& w) {
  draw_bits(seed + static_cast<u64>(k / 2) * kNextDraw, static_cast<u64>(b.start), b.n, w.random);
  zero_padding(w.state[k], b.n);  // rules with an eps or a least step leave more there
  t.absmax[k][b.index] = absmax >= kLeastAbsmax ? absmax : 0.0f;
  u8* codes = static_cast<u8*>(t.state[k]) + b.codes;
  if (k % 2 == 0) {
    encode_squares_at_random<0>(w.state[k], b.n, absmax, w.random, codes);
  } else {
    encode_squares_at_random<1>(w.state[k], b.n, absmax, w.random, codes);
  }
}

}  // namespace
