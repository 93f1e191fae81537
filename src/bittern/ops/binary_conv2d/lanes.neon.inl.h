// SPDX-License-Identifier: Apache-2.0

// Words as 16 bytes, for grouped.inl.h. Included inside the namespace of one instruction set.

constexpr i64 kLaneBytes = 16;

// Byte i of the result is byte index[i] of the word that x repeats.
static inline Words pick_bytes(Words x, Words index) {
  return {vreinterpretq_u64_u8(vqtbl1q_u8(vreinterpretq_u8_u64(x.bits), vreinterpretq_u8_u64(index.bits)))};
}
// How many bits of each byte are set.
static inline Words count_bits(Words x) {
  return {vreinterpretq_u64_u8(vcntq_u8(vreinterpretq_u8_u64(x.bits)))};
}
static inline Words add_lanes(Words a, Words b) {
  return {vreinterpretq_u64_u8(vaddq_u8(vreinterpretq_u8_u64(a.bits), vreinterpretq_u8_u64(b.bits)))};
}
static inline I32 widen_lanes(const u8* p) {
  const uint8x8_t four = vreinterpret_u8_u32(vld1_dup_u32(reinterpret_cast<const u32*>(p)));
  return {vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(four))))};
}
