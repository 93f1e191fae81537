// SPDX-License-Identifier: Apache-2.0

// Included by the block codecs that work in vectors, after their encode_tree and encode_nibbles.

namespace {

// Codes of n finite numbers whose largest magnitude is `absmax`.
inline void encode_block(Code code, const float* x, i64 n, float absmax, u8* codes) {
  const float inverse = inverse_of(absmax);
  if (code == Code::signed_tree8) return encode_tree<true>(tree_tables(code), x, n, inverse, codes);
  if (is_tree8(code)) return encode_tree<false>(tree_tables(code), x, n, inverse, codes);
  encode_nibbles(nibble_tables(code), x, n, inverse, codes);
}

}  // namespace
