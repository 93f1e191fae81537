// SPDX-License-Identifier: Apache-2.0

// Four bits that train (log_codes.py): squares in a logarithmic code, means relative to their roots, all
// rounded at random. Included inside the namespace of one instruction set, after blocks and the block codecs.
//
// Loops over 32-bit numbers without a branch, which compilers turn into vectors. Every operation rounds once,
// as in the reference, so all give the same codes.

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

// random32 of n numbers from `first` on.
inline void draw_bits(u64 seed, u64 first, i64 n, u32* out) {
  const u32 upper = static_cast<u32>(first >> 32);
  if (upper != static_cast<u32>((first + static_cast<u64>(n)) >> 32)) {
    for (i64 i = 0; i < n; ++i) out[i] = random32(seed, first + static_cast<u64>(i));
    return;
  }
  const u32 low = static_cast<u32>(first) + static_cast<u32>(seed);
  const u32 high = upper + static_cast<u32>(seed >> 32);
  for (i32 i = 0; i < n; ++i) out[i] = mix32(mix32(low + static_cast<u32>(i)) ^ high);
}

// Sixteen of the bits as numbers in [0, 1).
inline void chances_of(const u32* bits, int shift, i64 n, float* chance) {
  for (i64 i = 0; i < n; ++i)
    chance[i] = static_cast<float>(static_cast<i32>(bits[i] >> shift & 0xffffu)) * 0x1p-16f;
}

// The first of each two codes goes to the high half of its byte.
inline void pack_nibbles(const i32* code, i64 n, u8* codes) {
  i64 i = 0;
  for (; i + 2 <= n; i += 2) codes[i / 2] = static_cast<u8>(code[i] << 4 | code[i + 1]);
  if (i < n) codes[i / 2] = static_cast<u8>(code[i] << 4);
}

// Largest whole number at most x; |x| below 2^31.
inline i32 floor_of(float x) {
  const i32 cut = static_cast<i32>(x);
  const i32 above = static_cast<float>(cut) > x;
  return cut - above;
}

inline i32 clamp_to(i32 x, i32 least, i32 most) {
  return x < least ? least : x > most ? most : x;
}

// ---- decoding

// The levels of a block of squares, by code.
inline NibbleTables square_levels(const float* levels) {
  const i32 most = static_cast<i32>(float_bits(levels[0]));
  const i32 step = (most - static_cast<i32>(float_bits(levels[1]))) / (kLevels - 1);
  NibbleTables t{};
  for (int c = 1; c <= kLevels; ++c) {
    const i32 bits = most - (kLevels - c) * step;
    t.values[c] = float_of(bits < kLeastBits ? kLeastBits : bits);
  }
  return t;
}

// What a ratio of 1 / 7 of the largest stands for, by the code of its square.
inline NibbleTables ratio_units(const NibbleTables& levels, float largest) {
  const float unit = largest / static_cast<float>(kLargestRatio);
  NibbleTables t{};
  for (int c = 1; c <= kLevels; ++c) t.values[c] = unit * __builtin_sqrtf(levels.values[c]);
  return t;
}

inline NibbleTables ratio_levels() {
  NibbleTables t{};
  for (int c = 0; c < 16; ++c) t.values[c] = static_cast<float>((c ^ 8) - 8);
  return t;
}

inline void decode_ratios(const NibbleTables& units, const u8* square_codes, const u8* codes, i64 n,
                          float* unit, float* out) {
  decode_nibbles(units, square_codes, 1.0f, unit, n);
  decode_nibbles(ratio_levels(), codes, 1.0f, out, n);
  for (i64 i = 0; i < n; ++i) out[i] *= unit[i];
}

// The states of a block into the workspace.
template <class R>
inline void decode_logarithmic(const StepTensor& t, const Block& b, const Workspace& w) {
  NibbleTables levels{};
  const u8* square_codes = nullptr;
  for (int k = R::kStates - 1; k >= 0; --k) {
    if ((R::kSigned | R::kExact) >> k & 1u) continue;
    levels = square_levels(t.absmax[k] + 2 * b.index);  // last those of the first square
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
      decode_ratios(ratio_units(levels, scale), square_codes, codes + b.codes, b.n, w.unit, w.state[k]);
    } else {
      decode_block(Code::signed_tree4, codes + b.codes, scale, w.state[k], b.n);
    }
    zero_padding(w.state[k], b.n);
  }
}

// ---- encoding

// Bits of a number that is at least 0, which order as the numbers do.
inline i32 order_of(float x) {
  i32 bits;
  std::memcpy(&bits, &x, sizeof bits);
  return bits;
}

// All ones for bits of a square that counts as 0, without a branch.
inline i32 too_small(i32 bits) {
  return (bits - kLeastBits) >> 31;
}

// The largest bits of n squares, and the smallest of those that count, or the largest i32.
inline void range_of(const float* v, i64 n, i32& most, i32& least) {
  constexpr i32 kNone = 0x7fffffff;
  most = 0;
  least = kNone;
  for (i64 i = 0; i < n; ++i) {
    const i32 bits = order_of(v[i]), there = bits | (too_small(bits) & kNone);
    most = most > bits ? most : bits;
    least = least < there ? least : there;
  }
}

// bound: memory for n numbers.
inline void encode_squares(const float* v, i64 n, const float* chance, i32* code, float* bound,
                           float* levels) {
  i32 most, least;
  range_of(v, n, most, least);
  if (most < kLeastBits) {
    levels[0] = levels[1] = 0.0f;
    for (i64 i = 0; i < n; ++i) code[i] = 0;
    return;
  }
  const i32 step = clamp_to((most - least) / (kLevels - 1), kLeastStep, kMostStep);
  const i32 lowest = most - (kLevels - 1) * step;
  levels[0] = float_of(most);
  levels[1] = float_of(lowest);
  const float inverse = 1.0f / static_cast<float>(step), bend = static_cast<float>(step) * kBend;
  for (i64 i = 0; i < n; ++i) {
    const float place = static_cast<float>(order_of(v[i]) - lowest) * inverse;
    const i32 below = floor_of(place);
    const float rest = place - static_cast<float>(below);
    code[i] = below;
    bound[i] = rest - bend * (rest * (1.0f - rest));
  }
  for (i64 i = 0; i < n; ++i) {  // apart, for GCC would branch on the chance
    const i32 found = 1 + clamp_to(code[i] + (chance[i] < bound[i]), 0, kLevels - 1);
    code[i] = found & ~too_small(order_of(v[i]));
  }
}

// m / sqrt(v) of n elements, rounded up to whole vectors; returns the largest magnitude.
inline float ratios_of(const float* m, const float* v, i64 n, float* ratio) {
  const F32 below = splat(float_of(kLeastBits - 1)), zero = splat(0.0f);
  F32 largest = zero;
  for (i64 i = 0; i < n; i += kLanes) {
    const F32 square = load(v + i);
    const F32 r = select(greater(square, below), divide(load(m + i), square_root(square)), zero);
    store(ratio + i, r);
    largest = maximum(absolute(r), largest);
  }
  return largest_lane(largest);
}

inline void encode_ratios(const float* ratio, i64 n, float largest, const float* chance, i32* code) {
  const float inverse = largest > 0 ? static_cast<float>(kLargestRatio) / largest : 0.0f;
  if (inverse == 0) {
    for (i64 i = 0; i < n; ++i) code[i] = 0;
    return;
  }
  for (i64 i = 0; i < n; ++i) {
    float y = ratio[i] * inverse;
    y = y < 8.0f ? y : 8.0f;
    y = y > -8.0f ? y : -8.0f;
    code[i] = clamp_to(floor_of(y + chance[i]), -kLargestRatio, kLargestRatio) & 15;
  }
}

// Entries of the tree above or below each number, so that the mean is the number.
inline void encode_by_chance(const NibbleTables& t, const float* x, i64 n, float absmax, const float* chance,
                             i32* code) {
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

// The states of a block from the workspace; `absmax` of those that are not relative.
template <class R>
inline void encode_logarithmic(const StepTensor& t, const Block& b, u64 seed, const float* absmax,
                               const Workspace& w) {
  for (int k = 0; k < R::kStates; ++k) {
    if (R::kExact >> k & 1u) continue;
    if (k % 2 == 0) {
      draw_bits(seed + static_cast<u64>(k / 2) * kNextDraw, static_cast<u64>(b.start), b.n, w.random);
    }
    u8* codes = static_cast<u8*>(t.state[k]);
    const float largest = absmax[k] >= kLeastAbsmax ? absmax[k] : 0.0f;
    if (R::kSlow >> k & 1u) {
      t.absmax[k][b.index] = largest;
      encode_block(Code::signed_tree8, w.state[k], b.n, absmax[k], codes + b.start);
      continue;
    }
    chances_of(w.random, k % 2 * 16, b.n, w.chance);
    if (!(R::kSigned >> k & 1u)) {
      encode_squares(w.state[k], b.n, w.chance, w.code, w.unit, t.absmax[k] + 2 * b.index);
    } else if (R::kRelative >> k & 1u) {
      constexpr int kSquare = R::kGate < 0 ? 0 : R::kGate;
      float most = ratios_of(w.state[k], w.state[kSquare], b.n, w.unit);
      most = most < kLeastRatio ? 0.0f : most < kMostRatio ? most : kMostRatio;
      t.absmax[k][b.index] = most;
      encode_ratios(w.unit, b.n, most, w.chance, w.code);
    } else {
      t.absmax[k][b.index] = largest;
      encode_by_chance(nibble_tables(Code::signed_tree4), w.state[k], b.n, absmax[k], w.chance, w.code);
    }
    pack_nibbles(w.code, b.n, codes + b.codes);
  }
}

}  // namespace
