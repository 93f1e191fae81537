// SPDX-License-Identifier: Apache-2.0

// Block codecs one element at a time: those of the scalar kernels, and of what is left of a block elsewhere.
// Included inside the namespace of one instruction set.

namespace {

// Level of a magnitude y in [0, 1 + 2^-23].
inline int tree_level(const TreeTables& t, float y) {
  const u32 bucket = float_bits(y) >> 16;
  const int guess = t.guess[bucket > kFirstBucket ? bucket - kFirstBucket : 0];
  return guess - (y < t.borders[guess]);
}

// Without a branch on the sign, which no CPU could foresee.
inline u8 tree_code(const TreeTables& t, float y) {
  const int level = tree_level(t, __builtin_fabsf(y));
  if (!t.is_signed) return static_cast<u8>(level);
  const int negative = 127 - static_cast<int>(smaller(level, 127)), positive = 127 + level;
  return static_cast<u8>(y < 0 ? negative : positive);
}

inline u32 nibble_code(const NibbleTables& t, float y) {
  u32 code = 0;
  for (int i = 1; i < 16; ++i) code += y >= t.borders[i];
  return code;
}

// 1 / absmax; 0, which codes everything as zero, for a block of zeros.
inline float inverse_of(float absmax) {
  return absmax >= kLeastAbsmax ? 1.0f / absmax : 0.0f;
}

inline void encode_nibbles(const NibbleTables& t, const float* x, i64 n, float inverse, u8* codes) {
  for (i64 i = 0; i < n; i += 2) {
    const u32 first = nibble_code(t, x[i] * inverse);
    const u32 second = i + 1 < n ? nibble_code(t, x[i + 1] * inverse) : 0;
    codes[i / 2] = static_cast<u8>(first << 4 | second);
  }
}

// The first of each two codes goes to the high half of its byte.
inline void pack_nibbles(const i32* code, i64 n, u8* codes) {
  i64 i = 0;
  for (; i + 2 <= n; i += 2) codes[i / 2] = static_cast<u8>(code[i] << 4 | code[i + 1]);
  if (i < n) codes[i / 2] = static_cast<u8>(code[i] << 4);
}

inline void decode_nibbles(const NibbleTables& t, const u8* codes, float absmax, float* out, i64 n) {
  for (i64 i = 0; i < n; ++i) out[i] = t.values[i % 2 == 0 ? codes[i / 2] >> 4 : codes[i / 2] & 15] * absmax;
}

// Codes of n finite numbers whose largest magnitude is `absmax`.
inline void encode_block(Code code, const float* x, i64 n, float absmax, u8* codes) {
  const float inverse = inverse_of(absmax);
  if (!is_tree8(code)) return encode_nibbles(nibble_tables(code), x, n, inverse, codes);
  const TreeTables& t = tree_tables(code);
  for (i64 i = 0; i < n; ++i) codes[i] = tree_code(t, x[i] * inverse);
}

inline void decode_block(Code code, const u8* codes, float absmax, float* out, i64 n) {
  if (!is_tree8(code)) return decode_nibbles(nibble_tables(code), codes, absmax, out, n);
  const TreeTables& t = tree_tables(code);
  for (i64 i = 0; i < n; ++i) out[i] = t.values[codes[i]] * absmax;
}

// The numbers of any table of bytes: its entries, and the same as four tables of bytes.
inline void decode_table(const float* values, const TreeTables&, const u8* codes, float absmax, float* out,
                         i64 n) {
  for (i64 i = 0; i < n; ++i) out[i] = values[codes[i]] * absmax;
}

}  // namespace
