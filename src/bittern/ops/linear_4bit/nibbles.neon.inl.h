// SPDX-License-Identifier: Apache-2.0

// Numbers of packed nibbles, four at a time. Included inside namespace neon.
//
// TBL looks up bytes: a table of sixteen float32 is four tables of bytes, one register each. Sixteen codes
// (the low or the high nibbles of four words) are looked up in all four; two rounds of transposition within
// the words then give four vectors, each the numbers of one code of every word. That is twelve instructions
// for sixteen numbers. One call of `numbers` asks for one of the four; the compiler finds what the calls for
// a chunk share.

namespace {

constexpr int kFewInputs = 2, kFewRows = 2;  // that are multiplied in registers together

struct Table16 {
  uint8x16x4_t bytes;  // byte j of all entries
};
inline Table16 load_table(const float* values) {
  return {vld4q_u8(reinterpret_cast<const u8*>(values))};
}

// Four words of eight codes.
struct Codes {
  uint8x16_t bits;
};
inline Codes load_codes(const u8* p, i64) {
  return {vld1q_u8(p)};
}

// Code j of a word; the first element of a byte is in its high half.
constexpr int element_of(DType, int j, int lane) {
  return 8 * lane + (j ^ 1);
}
// A chunk of 8 kLanes numbers in lane order.
inline void order_chunk(DType type, const float* in, float* out) {
  for (int lane = 0; lane < static_cast<int>(kLanes); ++lane) {
    for (int j = 0; j < 8; ++j) out[j * kLanes + lane] = in[element_of(type, j, lane)];
  }
}

// The numbers of code j of each word.
inline F32 numbers(const Table16& table, Codes codes, int j) {
  const uint8x16_t code = j % 2 == 0 ? vandq_u8(codes.bits, vdupq_n_u8(15)) : vshrq_n_u8(codes.bits, 4);
  const uint8x16_t b0 = vqtbl1q_u8(table.bytes.val[0], code), b1 = vqtbl1q_u8(table.bytes.val[1], code);
  const uint8x16_t b2 = vqtbl1q_u8(table.bytes.val[2], code), b3 = vqtbl1q_u8(table.bytes.val[3], code);
  const int byte = j / 2;  // of its word
  const uint16x8_t low = vreinterpretq_u16_u8(byte % 2 == 0 ? vtrn1q_u8(b0, b1) : vtrn2q_u8(b0, b1));
  const uint16x8_t high = vreinterpretq_u16_u8(byte % 2 == 0 ? vtrn1q_u8(b2, b3) : vtrn2q_u8(b2, b3));
  return vreinterpretq_f32_u16(byte < 2 ? vtrn1q_u16(low, high) : vtrn2q_u16(low, high));
}

// p[0 .. count) spread evenly over the lanes; count is 1, since a chunk of 32 is no longer than a block.
struct Spread {
  explicit Spread(i64) {}
  F32 operator()(const float* p) const { return vld1q_dup_f32(p); }
};

// Rounded to nearest even: half of the last place that stays, less one bit where that place is even. NaN
// stays NaN, quiet.
inline F32 through_bf16(F32 x) {
  const uint32x4_t bits = vreinterpretq_u32_f32(x);
  const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
  const uint32x4_t sum = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
  const uint32x4_t quiet = vorrq_u32(bits, vdupq_n_u32(0x400000));
  const uint32x4_t kept = vbslq_u32(vceqq_f32(x, x), sum, quiet);
  return vreinterpretq_f32_u32(vandq_u32(kept, vdupq_n_u32(0xffff0000u)));
}
inline F32 through_f16(F32 x) {
  return vcvt_f32_f16(vcvt_f16_f32(x));
}

constexpr bool kScalesTables = false;  // before numbers are looked up in them
constexpr i64 kAhead = 0;              // no codes are asked for before they are needed

template <DType kType>
struct As {};

inline float sum_of_lanes(F32 x) {
  return vaddvq_f32(x);
}

}  // namespace
