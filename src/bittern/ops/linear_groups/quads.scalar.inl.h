// SPDX-License-Identifier: Apache-2.0

// Quads: words whose four bytes are the codes of four neighbouring columns, one row at a time.
// Included inside namespace scalar.

namespace {

constexpr int kTileVectors = 2;  // of rows that are worked on together

struct Quads {
  u32 bits;
};
inline Quads load_quads(const u32* p) {
  return {*p};
}
inline void store_quads(u32* p, Quads q) {
  *p = q.bits;
}
// The bits of each byte that `mask` has, after a shift of the words.
inline Quads field(Quads words, int shift, int mask) {
  return {words.bits >> shift & static_cast<u32>(mask) * 0x01010101u};
}
// low + 4 * high, of bytes below 4 and 2.
inline Quads with_high(Quads low, Quads high) {
  return {low.bits | high.bits << 2};
}
// One byte of each word, unsigned or signed.
inline i32 byte_of(u32 word, int byte) {
  return static_cast<i32>(word >> 8 * byte & 255u);
}
inline i32 signed_byte_of(u32 word, int byte) {
  return static_cast<std::int8_t>(static_cast<u8>(word >> 8 * byte));
}
// Byte by byte less `half`, as signed numbers.
inline Quads centered(Quads q, int half) {
  u32 bits = 0;
  for (int byte = 0; byte < 4; ++byte)
    bits |= static_cast<u32>(static_cast<u8>(byte_of(q.bits, byte) - half)) << 8 * byte;
  return {bits};
}
// The numbers of one byte of each word.
inline F32 number(Quads q, int byte) {
  return static_cast<F32>(byte_of(q.bits, byte));
}
inline F32 signed_number(Quads q, int byte) {
  return static_cast<F32>(signed_byte_of(q.bits, byte));
}
inline F32 load_small(const u8* p) {
  return static_cast<F32>(*p);
}

// Products of unsigned bytes of the weight with signed ones of the input.
constexpr int kMostCode = 255;
constexpr bool kNarrows = false;  // sums of a tile of columns are narrower than those of a group
struct Narrow {
  i32 sum;
};
inline Narrow narrow_zero() {
  return {0};
}
inline Quads splat_quad(const std::int8_t* p) {
  u32 four;
  std::memcpy(&four, p, sizeof four);
  return {four};
}
inline Narrow step(Narrow sum, Quads w, Quads x) {
  for (int byte = 0; byte < 4; ++byte) sum.sum += byte_of(w.bits, byte) * signed_byte_of(x.bits, byte);
  return sum;
}
inline I32 widened(Narrow x) {
  return x.sum;
}

}  // namespace
