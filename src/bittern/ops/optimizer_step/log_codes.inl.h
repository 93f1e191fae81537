// SPDX-License-Identifier: Apache-2.0

// Four bits that train (log_codes.py): squares in a logarithmic code, means relative to their roots, all
// rounded at random. Included inside the namespace of one instruction set, after blocks and the block codecs.
//
// Every operation rounds once, as in the reference, so all give the same codes.

namespace {

constexpr i32 kLeastBits = 0x00800000;  // of the smallest normal float32
constexpr i32 kLevels = 15, kLargestRatio = 7;
constexpr i32 kLeastStep = 1 << 18, kMostStep = 1 << 24;
constexpr float kBend = static_cast<float>(0.0866 / 8388608);
constexpr float kLeastRatio = 0x1p-120f, kMostRatio = 0x1p60f;
constexpr u64 kNextDraw = 0x9e3779b900000000u;

inline float float_of(i32 bits) {
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

inline i32 clamp_to(i32 x, i32 least, i32 most) {
  return x < least ? least : x > most ? most : x;
}

// ---- decoding

// The levels of a block of squares, by code: c = 1 ... 15.
inline void square_levels(const float* levels, NibbleTables& t) {
  const i32 most = static_cast<i32>(float_bits(levels[0]));
  const i32 step = (most - static_cast<i32>(float_bits(levels[1]))) / (kLevels - 1);
  for (i32 c = 0; c < 16; c += static_cast<i32>(kLanes)) {
    const I32 below = multiply(subtract(splat(kLevels), ascending(c)), splat(step));
    store(t.values + c, from_bits(maximum(subtract(splat(most), below), splat(kLeastBits))));
  }
  t.values[0] = 0;
}

// What a ratio of 1 / 7 of the largest stands for, by the code of its square.
inline void ratio_units(const NibbleTables& levels, float largest, NibbleTables& t) {
  const F32 unit = splat(largest / static_cast<float>(kLargestRatio));
  for (i64 c = 0; c < 16; c += kLanes)
    store(t.values + c, multiply(unit, square_root(load(levels.values + c))));
  t.values[0] = 0;
}

constexpr NibbleTables kRatioLevels = {{0, 1, 2, 3, 4, 5, 6, 7, -8, -7, -6, -5, -4, -3, -2, -1}, {}};

inline void decode_ratios(const NibbleTables& units, const u8* square_codes, const u8* codes, i64 n,
                          float* unit, float* out) {
  decode_nibbles(units, square_codes, 1.0f, unit, n);
  decode_nibbles(kRatioLevels, codes, 1.0f, out, n);
  for (i64 i = 0; i < n; i += kLanes) store(out + i, multiply(load(out + i), load(unit + i)));
}

// The states of a block into the workspace.
template <class R>
inline void decode_logarithmic(const StepTensor& t, const Block& b, const Workspace& w) {
  NibbleTables levels, units;
  const u8* square_codes = nullptr;
  for (int k = R::kStates - 1; k >= 0; --k) {
    if ((R::kSigned | R::kExact) >> k & 1u) continue;
    square_levels(t.absmax[k] + 2 * b.index, levels);  // last those of the first square
    square_codes = static_cast<const u8*>(t.state[k]) + b.codes;
    decode_nibbles(levels, square_codes, 1.0f, w.state[k], b.n);
    zero_padding(w.state[k], b.n);
  }
  for (int k = 0; k < R::kStates; ++k) {
    if (!(R::kSigned >> k & 1u)) continue;
    const u8* codes = static_cast<const u8*>(t.state[k]);
    const float scale = t.absmax[k][b.index];
    if (R::kSlow >> k & 1u) {
      decode_block(Code::signed_tree8, codes + b.start, scale, w.state[k], b.n);
    } else if (R::kRelative >> k & 1u) {
      ratio_units(levels, scale, units);
      decode_ratios(units, square_codes, codes + b.codes, b.n, w.unit, w.state[k]);
    } else {
      decode_block(Code::signed_tree4, codes + b.codes, scale, w.state[k], b.n);
    }
    zero_padding(w.state[k], b.n);
  }
}

// ---- encoding

// Sixteen of the random bits as a number in [0, 1): the lower or the upper ones.
template <int kUpper>
inline F32 chance_of(I32 bits) {
  const I32 sixteen = kUpper ? shift_right<16>(bits) : both(bits, splat(0xffff));
  return multiply(to_float(sixteen), splat(0x1p-16f));
}

inline I32 clamped(I32 x, i32 least, i32 most) {
  return minimum(maximum(x, splat(least)), splat(most));
}

constexpr i32 kNone = 0x7fffffff;

// The largest bits of squares, and the smallest of those that count, or kNone; bits of numbers that are at
// least 0 order as the numbers do.
struct Range {
  I32 most = splat(0), least = splat(kNone);

  BITTERN_INLINE void take(F32 v) {
    const I32 bits = to_bits(v);
    most = maximum(most, bits);
    least = minimum(least, select(greater(bits, splat(kLeastBits - 1)), bits, splat(kNone)));
  }
};

struct SquareEncoder {
  I32 start;
  F32 inverse, bend;

  // Writes the levels of the block. Where no square counts, all codes are 0.
  SquareEncoder(const Range& range, float* levels) {
    alignas(64) i32 lanes[2][kLanes];
    store(lanes[0], range.most);
    store(lanes[1], range.least);
    i32 most = 0, least = kNone;
    for (i64 i = 0; i < kLanes; ++i) {
      most = most > lanes[0][i] ? most : lanes[0][i];
      least = least < lanes[1][i] ? least : lanes[1][i];
    }
    const i32 step = clamp_to((most - least) / (kLevels - 1), kLeastStep, kMostStep);
    const i32 lowest = most - (kLevels - 1) * step;
    levels[0] = most < kLeastBits ? 0.0f : float_of(most);
    levels[1] = most < kLeastBits ? 0.0f : float_of(lowest);
    start = splat(lowest);
    inverse = splat(1.0f / static_cast<float>(step));
    bend = splat(static_cast<float>(step) * kBend);
  }

  BITTERN_INLINE I32 operator()(F32 v, F32 chance) const {
    const I32 bits = to_bits(v), one = splat(1);
    const F32 place = multiply(to_float(subtract(bits, start)), inverse), below = floor_of(place);
    const F32 rest = subtract(place, below);
    const F32 bound = subtract(rest, multiply(bend, multiply(rest, subtract(splat(1.0f), rest))));
    const I32 level = to_int(below), above = add(level, one);
    const I32 found = add(one, clamped(select(greater(bound, chance), above, level), 0, kLevels - 1));
    return select(greater(bits, splat(kLeastBits - 1)), found, splat(0));
  }
};

template <int kUpper>
inline void encode_squares(const float* v, i64 n, const i32* random, i32* code, float* levels) {
  Range range;
  for (i64 i = 0; i < n; i += kLanes) range.take(load(v + i));
  const SquareEncoder encode(range, levels);
  for (i64 i = 0; i < n; i += kLanes)
    store(code + i, encode(load(v + i), chance_of<kUpper>(load(random + i))));
}

// m over the root of its square, 0 where that counts as 0.
inline F32 ratio_of(F32 m, F32 square, F32 root) {
  const F32 below = splat(float_of(kLeastBits - 1));
  return select(greater(square, below), divide(m, root), splat(0.0f));
}

// The largest ratio as it is stored.
inline float stored_ratio(float most) {
  return most < kLeastRatio ? 0.0f : most < kMostRatio ? most : kMostRatio;
}

struct RatioEncoder {
  F32 factor;

  // largest: as it is stored.
  explicit RatioEncoder(float largest)
      : factor(splat(largest > 0 ? static_cast<float>(kLargestRatio) / largest : 0.0f)) {}

  BITTERN_INLINE I32 operator()(F32 ratio, F32 chance) const {
    const F32 y = maximum(minimum(multiply(ratio, factor), splat(8.0f)), splat(-8.0f));
    return both(clamped(to_int(floor_of(add(y, chance))), -kLargestRatio, kLargestRatio), splat(15));
  }
};

// The ratios of n elements, rounded up to whole vectors; returns the largest magnitude.
inline float ratios_of(const float* m, const float* v, i64 n, float* ratio) {
  F32 largest = splat(0.0f);
  for (i64 i = 0; i < n; i += kLanes) {
    const F32 square = load(v + i), r = ratio_of(load(m + i), square, square_root(square));
    store(ratio + i, r);
    largest = maximum(absolute(r), largest);
  }
  return largest_lane(largest);
}

template <int kUpper>
inline void encode_ratios(const float* ratio, i64 n, float largest, const i32* random, i32* code) {
  const RatioEncoder encode(largest);
  for (i64 i = 0; i < n; i += kLanes)
    store(code + i, encode(load(ratio + i), chance_of<kUpper>(load(random + i))));
}

// Entries of the tree above or below each number, so that the mean is the number.
template <int kUpper>
inline void encode_by_chance(const NibbleTables& t, const float* x, i64 n, float absmax, const i32* random,
                             float* chance, i32* code) {
  for (i64 i = 0; i < n; i += kLanes) store(chance + i, chance_of<kUpper>(load(random + i)));
  const float inverse = inverse_of(absmax);
  for (i64 i = 0; i < n; ++i) {
    const float y = x[i] * inverse;
    i32 below = 0;
    BITTERN_UNROLL
    for (int c = 1; c < 15; ++c) below += y >= t.values[c];
    const float low = t.values[below], high = t.values[below + 1];
    code[i] = below + (chance[i] * (high - low) < y - low);
  }
}

// The square whose root the means are relative to.
template <class R>
constexpr int kSquareOf = R::kGate < 0 ? 0 : R::kGate;

// State k of a block, which takes the lower or the upper half of the random bits.
template <class R, int k>
inline void encode_state(const StepTensor& t, const Block& b, float absmax, const Workspace& w) {
  constexpr int kUpper = k % 2;
  u8* codes = static_cast<u8*>(t.state[k]);
  zero_padding(w.state[k], b.n);  // rules with an eps or a least step leave more there
  const float largest = absmax >= kLeastAbsmax ? absmax : 0.0f;
  if constexpr (R::kSlow >> k & 1u) {
    t.absmax[k][b.index] = largest;
    return encode_block(Code::signed_tree8, w.state[k], b.n, absmax, codes + b.start);
  } else if constexpr (!(R::kSigned >> k & 1u)) {
    encode_squares<kUpper>(w.state[k], b.n, w.random, w.code, t.absmax[k] + 2 * b.index);
  } else if constexpr (R::kRelative >> k & 1u) {
    const float most = stored_ratio(ratios_of(w.state[k], w.state[kSquareOf<R>], b.n, w.unit));
    t.absmax[k][b.index] = most;
    encode_ratios<kUpper>(w.unit, b.n, most, w.random, w.code);
  } else {
    t.absmax[k][b.index] = largest;
    encode_by_chance<kUpper>(nibble_tables(Code::signed_tree4), w.state[k], b.n, absmax, w.random, w.chance,
                             w.code);
  }
  pack_nibbles(w.code, b.n, codes + b.codes);
}

// The states of a block from the workspace, from k on; `absmax` of those that are not relative.
template <class R, int k = 0>
inline void encode_logarithmic(const StepTensor& t, const Block& b, u64 seed, const float* absmax,
                               const Workspace& w) {
  if constexpr (k < R::kStates) {
    if constexpr (k % 2 == 0)
      draw_bits(seed + static_cast<u64>(k / 2) * kNextDraw, static_cast<u64>(b.start), b.n, w.random);
    if constexpr (!(R::kExact >> k & 1u)) encode_state<R, k>(t, b, absmax[k], w);
    encode_logarithmic<R, k + 1>(t, b, seed, absmax, w);
  }
}

}  // namespace
