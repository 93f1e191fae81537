// SPDX-License-Identifier: Apache-2.0

// The scales of a stretch of blocks, decoded into a buffer in the cache where they are bytes: a row at a
// time, on its way to the product. Included inside the namespace of one instruction set, after its simd
// header.

namespace {

// Eight at a time, for a loop takes as long as a lookup.
inline void look_up(const float* table, const u8* codes, i64 n, float* out) {
  i64 i = 0;
  for (; i + 8 <= n; i += 8) {
    u32 bits[8];
    BITTERN_UNROLL
    for (int j = 0; j < 8; ++j) std::memcpy(bits + j, table + codes[i + j], sizeof(float));
    BITTERN_UNROLL
    for (int j = 0; j < 8; ++j) std::memcpy(out + i + j, bits + j, sizeof(float));
  }
  for (; i < n; ++i) out[i] = table[codes[i]];
}

// As dequantizing them first does: a product, a sum and a limit, each rounded.
inline void decode_nested(const BlockScales& s, i64 first, i64 n, float* out) {
  look_up(s.table, s.codes + first, n, out);
  for (i64 i = 0; i < n;) {
    const float outer = s.outer[(first + i) / kNestedBlock];
    i64 end = smaller(n, i + kNestedBlock - (first + i) % kNestedBlock);
    for (; i + kLanes <= end; i += kLanes) {
      const F32 sum = add(multiply(load(out + i), splat(outer)), splat(s.offset));
      store(out + i, maximum(splat(0.0f), sum));  // NaN stays, as the second of two
    }
    for (; i < end; ++i) {
      const float sum = out[i] * outer + s.offset;
      out[i] = sum < 0.0f ? 0.0f : sum;
    }
  }
}

inline void decode_powers(const u8* exponents, i64 n, float* out) {
  for (i64 i = 0; i < n; ++i) {
    const u32 e = exponents[i], normal = e << 23;
    const u32 bits = e == 0 ? 1u << 22 : e == 255 ? 0x7fc00000u : normal;
    std::memcpy(out + i, &bits, sizeof bits);
  }
}

// The same with one NaN for all, which stays one where 0x7fff is added to its bits.
inline const float* quiet_scales(const float* scales, i64 n, float* buffer) {
  const u32 bits = 0x7fc00000;
  float nan;
  std::memcpy(&nan, &bits, sizeof nan);
  i64 i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    const F32 x = load(scales + i);
    store(buffer + i, select(equal(x, x), x, splat(nan)));
  }
  for (; i < n; ++i) buffer[i] = scales[i] == scales[i] ? scales[i] : nan;
  return buffer;
}

// Of blocks first to first + n, in `buffer` if they are bytes.
inline const float* scales_of(const BlockScales& s, i64 first, i64 n, float* buffer) {
  if (s.absmax != nullptr) return s.absmax + first;
  if (s.table != nullptr) {
    decode_nested(s, first, n, buffer);
  } else {
    decode_powers(s.codes + first, n, buffer);
  }
  return buffer;
}

}  // namespace
