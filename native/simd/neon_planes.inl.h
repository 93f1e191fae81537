// SPDX-License-Identifier: Apache-2.0

// As nibble_planes.inl.h, in the vectors of NEON.

constexpr i64 kPlaneWords = 8;

static inline void store_nibbles(uint8x16_t pairs, i64 pitch, u8* out) {
  const uint8x16_t low = vandq_u8(pairs, vdupq_n_u8(15)), high = vshrq_n_u8(pairs, 4);
  vst1_u8(out, vget_low_u8(low));
  vst1_u8(out + pitch, vget_low_u8(high));
  vst1_u8(out + 2 * pitch, vget_high_u8(low));
  vst1_u8(out + 3 * pitch, vget_high_u8(high));
}

// The first or the last eight bytes of two vectors in turn, by two or by four bytes.
template <int bytes, bool high>
static inline uint8x16_t zip_bytes(uint8x16_t a, uint8x16_t b) {
  if constexpr (bytes == 2) {
    const uint16x8_t x = vreinterpretq_u16_u8(a), y = vreinterpretq_u16_u8(b);
    return vreinterpretq_u8_u16(high ? vzip2q_u16(x, y) : vzip1q_u16(x, y));
  }
  const uint32x4_t x = vreinterpretq_u32_u8(a), y = vreinterpretq_u32_u8(b);
  return vreinterpretq_u8_u32(high ? vzip2q_u32(x, y) : vzip1q_u32(x, y));
}

template <int bytes>
static inline void turn_nibbles(const u64* words, i64 step, i64 pitch, u8* out) {
  uint8x16_t two[4];  // a byte of two words, side by side
  BITTERN_UNROLL
  for (int i = 0; i < 4; ++i) {
    const auto word = [&](int n) { return vcreate_u8(words[n * step]); };
    const uint8x8x2_t zipped = vzip_u8(word(2 * i), word(2 * i + 1));
    two[i] = vcombine_u8(zipped.val[0], zipped.val[1]);
  }
  const uint8x16_t first = zip_bytes<2, false>(two[0], two[1]), second = zip_bytes<2, false>(two[2], two[3]);
  store_nibbles(zip_bytes<4, false>(first, second), pitch, out);
  if (bytes > 2) store_nibbles(zip_bytes<4, true>(first, second), pitch, out + 4 * pitch);
  if (bytes > 4) {
    const uint8x16_t third = zip_bytes<2, true>(two[0], two[1]), fourth = zip_bytes<2, true>(two[2], two[3]);
    store_nibbles(zip_bytes<4, false>(third, fourth), pitch, out + 8 * pitch);
    store_nibbles(zip_bytes<4, true>(third, fourth), pitch, out + 12 * pitch);
  }
}
