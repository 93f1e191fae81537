// SPDX-License-Identifier: Apache-2.0

// Quads: words whose four bytes are the codes of four neighbouring columns, four rows at a time; all but
// their products. Included by the quads of neon and of its parts, inside their namespaces.

namespace {

constexpr int kTileVectors = 4;  // of rows that are worked on together

struct Quads {
  uint32x4_t bits;
};
inline Quads load_quads(const u32* p) {
  return {vld1q_u32(p)};
}
inline void store_quads(u32* p, Quads q) {
  vst1q_u32(p, q.bits);
}
// The bits of each byte that `mask` has, after a shift of the words.
inline Quads field(Quads words, int shift, int mask) {
  const uint32x4_t shifted = vshlq_u32(words.bits, vdupq_n_s32(-shift));
  return {vandq_u32(shifted, vreinterpretq_u32_u8(vdupq_n_u8(static_cast<u8>(mask))))};
}
// low + 4 * high, of bytes below 4 and 2.
inline Quads with_high(Quads low, Quads high) {
  return {vorrq_u32(low.bits, vshlq_n_u32(high.bits, 2))};
}
// Byte by byte less `half`, as signed numbers.
inline Quads centered(Quads q, int half) {
  return {vreinterpretq_u32_u8(vsubq_u8(vreinterpretq_u8_u32(q.bits), vdupq_n_u8(static_cast<u8>(half))))};
}
// The numbers of one byte of each word.
inline F32 number(Quads q, int byte) {
  return vcvtq_f32_u32(vandq_u32(vshlq_u32(q.bits, vdupq_n_s32(-8 * byte)), vdupq_n_u32(255)));
}
inline F32 signed_number(Quads q, int byte) {
  const int32x4_t top = vreinterpretq_s32_u32(vshlq_u32(q.bits, vdupq_n_s32(24 - 8 * byte)));
  return vcvtq_f32_s32(vshrq_n_s32(top, 24));
}
inline F32 load_small(const u8* p) {
  u32 four;
  std::memcpy(&four, p, sizeof four);
  const uint8x8_t bytes = vreinterpret_u8_u32(vdup_n_u32(four));
  return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes))));
}
inline Quads splat_quad(const std::int8_t* p) {
  u32 four;
  std::memcpy(&four, p, sizeof four);
  return {vdupq_n_u32(four)};
}

}  // namespace
