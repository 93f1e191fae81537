// SPDX-License-Identifier: Apache-2.0

// Block codecs on NEON. Included inside namespace neon, after its simd header.
//
// Codes of 4 bits live in registers. To encode, y is compared with all 15 borders, which is two instructions
// each: a search by halves needs 4 comparisons, but as many selections as it spares. To decode, one TBL per
// byte of the float32 finds that byte of 16 numbers, and eight ZIPs join them.
//
// Tables of 8-bit codes are looked up in memory. With TBL, which reaches 64 bytes, 16 numbers would take 16
// of its widest form and 64 registers of table, far more than there are; 16 loads from a table of 1 KiB do
// the same. Encoding does all that surrounds the two lookups in vectors, without a branch on the sign, in
// three passes over 64 numbers: what a pass stores in small pieces has left the store buffer when the next
// one loads it whole.

namespace plain {
#include "codec.inl.h"
}  // namespace plain

namespace {

using plain::inverse_of;

// Codes of 4 numbers: how many borders [1 ..] each reaches.
inline uint32x4_t nibble_codes(const F32* borders, F32 y) {
  uint32x4_t low = vdupq_n_u32(0), high = low;
  BITTERN_UNROLL
  for (int i = 1; i < 8; ++i) low = vsubq_u32(low, vcgeq_f32(y, borders[i]));
  BITTERN_UNROLL
  for (int i = 8; i < 16; ++i) high = vsubq_u32(high, vcgeq_f32(y, borders[i]));
  return vaddq_u32(low, high);
}

// Sixteen codes to eight bytes, the first of each two in the high half.
inline uint8x8_t join_nibbles(const uint32x4_t* code) {
  uint16x4_t part[4];
  BITTERN_UNROLL
  for (int i = 0; i < 4; ++i) part[i] = vmovn_u32(code[i]);
  const uint8x16_t codes =
      vcombine_u8(vmovn_u16(vcombine_u16(part[0], part[1])), vmovn_u16(vcombine_u16(part[2], part[3])));
  const uint16x8_t pairs = vreinterpretq_u16_u8(codes);
  return vmovn_u16(vorrq_u16(vshlq_n_u16(pairs, 4), vshrq_n_u16(pairs, 8)));
}

inline uint8x8_t encode_16_nibbles(const F32* borders, const float* x, F32 inverse) {
  uint32x4_t code[4];
  BITTERN_UNROLL
  for (int i = 0; i < 4; ++i) code[i] = nibble_codes(borders, multiply(load(x + i * kLanes), inverse));
  return join_nibbles(code);
}

inline void pack_nibbles(const i32* code, i64 n, u8* codes) {
  i64 i = 0;
  for (; i + 16 <= n; i += 16) {
    uint32x4_t four[4];
    BITTERN_UNROLL
    for (int j = 0; j < 4; ++j) four[j] = vreinterpretq_u32_s32(vld1q_s32(code + i + j * kLanes));
    vst1_u8(codes + i / 2, join_nibbles(four));
  }
  plain::pack_nibbles(code + i, n - i, codes + i / 2);
}

inline void encode_nibbles(const NibbleTables& t, const float* x, i64 n, float inverse, u8* codes) {
  F32 borders[16];
  BITTERN_UNROLL
  for (int i = 0; i < 8; ++i) borders[i] = splat(t.borders[i]);
  BITTERN_UNROLL
  for (int i = 8; i < 16; ++i) borders[i] = splat(t.borders[i]);
  i64 i = 0;
  for (; i + 16 <= n; i += 16) vst1_u8(codes + i / 2, encode_16_nibbles(borders, x + i, splat(inverse)));
  plain::encode_nibbles(t, x + i, n - i, inverse, codes + i / 2);
}

// Sixteen numbers of eight bytes.
inline void decode_16_nibbles(const uint8x16x4_t& table, uint8x8_t bytes, F32 factor, float* out) {
  const uint8x8_t first = vshr_n_u8(bytes, 4), second = vand_u8(bytes, vdup_n_u8(15));
  const uint8x16_t code = vcombine_u8(vzip1_u8(first, second), vzip2_u8(first, second));
  const uint8x16_t b0 = vqtbl1q_u8(table.val[0], code), b1 = vqtbl1q_u8(table.val[1], code);
  const uint8x16_t b2 = vqtbl1q_u8(table.val[2], code), b3 = vqtbl1q_u8(table.val[3], code);
  const uint16x8_t low[2] = {vreinterpretq_u16_u8(vzip1q_u8(b0, b1)),
                             vreinterpretq_u16_u8(vzip2q_u8(b0, b1))};
  const uint16x8_t high[2] = {vreinterpretq_u16_u8(vzip1q_u8(b2, b3)),
                              vreinterpretq_u16_u8(vzip2q_u8(b2, b3))};
  BITTERN_UNROLL
  for (int i = 0; i < 2; ++i) {
    const F32 front = vreinterpretq_f32_u16(vzip1q_u16(low[i], high[i]));
    const F32 back = vreinterpretq_f32_u16(vzip2q_u16(low[i], high[i]));
    store(out + 2 * i * kLanes, multiply(front, factor));
    store(out + (2 * i + 1) * kLanes, multiply(back, factor));
  }
}

inline void decode_nibbles(const NibbleTables& t, const u8* codes, float absmax, float* out, i64 n) {
  const uint8x16x4_t table = vld4q_u8(reinterpret_cast<const u8*>(t.values));
  i64 i = 0;
  for (; i + 16 <= n; i += 16) decode_16_nibbles(table, vld1_u8(codes + i / 2), splat(absmax), out + i);
  plain::decode_nibbles(t, codes + i / 2, absmax, out + i, n - i);
}

// ---- codes of 8 bits

constexpr i64 kPass = 64;

// What the passes over kPass numbers hand on: buckets, then the guessed levels and their lower borders.
struct Search {
  alignas(64) u16 bucket[kPass];
  alignas(64) u8 level[kPass];
  alignas(64) float border[kPass];
};

// The upper halves of |y|, counted from the first bucket.
inline void find_buckets(Search& s, const float* x, F32 inverse) {
  const uint16x8_t first = vdupq_n_u16(kFirstBucket);
  for (i64 i = 0; i < kPass; i += 2 * kLanes) {
    const F32 low = absolute(multiply(load(x + i), inverse));
    const F32 high = absolute(multiply(load(x + i + kLanes), inverse));
    const uint16x8_t halves = vcombine_u16(vshrn_n_u32(vreinterpretq_u32_f32(low), 16),
                                           vshrn_n_u32(vreinterpretq_u32_f32(high), 16));
    vst1q_u16(s.bucket + i, vqsubq_u16(halves, first));
  }
}

inline void look_up(const TreeTables& t, Search& s) {
  for (i64 i = 0; i < kPass; ++i) {
    s.level[i] = t.guess[s.bucket[i]];
    s.border[i] = t.borders[s.level[i]];
  }
}

inline uint8x16_t narrow_masks(const Mask* m) {
  return vcombine_u8(vmovn_u16(vcombine_u16(vmovn_u32(m[0]), vmovn_u32(m[1]))),
                     vmovn_u16(vcombine_u16(vmovn_u32(m[2]), vmovn_u32(m[3]))));
}

// Codes of 16 numbers: one level less where |y| lies below the border.
template <bool kSigned>
inline uint8x16_t finish_codes(const Search& s, i64 at, const float* x, F32 inverse) {
  Mask below[4], minus[4];
  BITTERN_UNROLL
  for (int i = 0; i < 4; ++i) {
    const F32 y = multiply(load(x + at + i * kLanes), inverse);
    below[i] = greater(load(s.border + at + i * kLanes), absolute(y));
    minus[i] = greater(splat(0.0f), y);
  }
  const uint8x16_t level = vaddq_u8(vld1q_u8(s.level + at), narrow_masks(below));
  if (!kSigned) return level;
  const uint8x16_t zero = vdupq_n_u8(127);
  return vbslq_u8(narrow_masks(minus), vsubq_u8(zero, vminq_u8(level, zero)), vaddq_u8(zero, level));
}

template <bool kSigned>
inline void encode_tree(const TreeTables& t, const float* x, i64 n, float inverse, u8* codes) {
  Search s;
  const F32 factor = splat(inverse);
  i64 i = 0;
  for (; i + kPass <= n; i += kPass) {
    find_buckets(s, x + i, factor);
    look_up(t, s);
    for (i64 at = 0; at < kPass; at += 4 * kLanes)
      vst1q_u8(codes + i + at, finish_codes<kSigned>(s, at, x + i, factor));
  }
  for (; i < n; ++i) codes[i] = plain::tree_code(t, x[i] * inverse);
}

}  // namespace

#include "encode_block.inl.h"

namespace {

inline void decode_block(Code code, const u8* codes, float absmax, float* out, i64 n) {
  if (is_tree8(code)) return plain::decode_block(code, codes, absmax, out, n);
  decode_nibbles(nibble_tables(code), codes, absmax, out, n);
}

// The numbers of any table of bytes: its entries, and the same as four tables of bytes.
inline void decode_table(const float* values, const TreeTables& bytes, const u8* codes, float absmax,
                         float* out, i64 n) {
  plain::decode_table(values, bytes, codes, absmax, out, n);
}

}  // namespace
