// SPDX-License-Identifier: Apache-2.0

// 64 bytes to 8 words, by words of 64 bits. Included inside the namespace of an instruction set without a
// vector instruction that collects the high bits of bytes.

// Bit i of word j is bit j of byte i.
static inline void turn_bits(const u8* bytes, u64* words) {
  u64 blocks[8];
  std::memcpy(blocks, bytes, sizeof blocks);
  for (int j = 0; j < 8; ++j) words[j] = 0;
  for (int k = 0; k < 8;
       ++k) {  // 8 x 8 bits: exchange single bits, then pairs, then fours across the diagonal
    u64 b = blocks[k], differ = (b ^ b >> 7) & 0x00aa00aa00aa00aaull;
    b ^= differ ^ differ << 7;
    differ = (b ^ b >> 14) & 0x0000cccc0000ccccull;
    b ^= differ ^ differ << 14;
    differ = (b ^ b >> 28) & 0x00000000f0f0f0f0ull;
    b ^= differ ^ differ << 28;
    for (int j = 0; j < 8; ++j) words[j] |= (b >> 8 * j & 255) << 8 * k;
  }
}
