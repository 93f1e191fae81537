// SPDX-License-Identifier: Apache-2.0

// A chunk of a row whose blocks begin anywhere in it, as they do where k is no multiple of a block: up to
// several scales a chunk, of which one may begin within a word, and for odd k rows that begin at half a byte.
// Included inside the namespace of one instruction set, after chunk.inl.h.

namespace {

constexpr i64 kSmallestBlock = 32, kMostEdges = kChunk / kSmallestBlock + 2;

// Element e has the scale behind the last edge that is at most e. Behind the end of a row the scale is 0.
struct RaggedChunk {
  Codes codes;
  int edges;
  float edge[kMostEdges], scale[kMostEdges + 1];

  F32 scales(int j) const {
    const F32 element = load(kLaneOrder.element + j * kLanes);
    F32 found = splat(scale[0]);
    for (int i = 0; i < edges; ++i)
      found = select(greater(element, splat(edge[i])), splat(scale[i + 1]), found);
    return found;
  }
};

// Codes of n elements from element i of the weight on; what is behind them is 0.
inline Codes load_ragged_codes(const u8* packed, i64 i, i64 n) {
  const u8* p = packed + i / 2;
  if (i % 2 == 0 && n == kChunk) return load_codes(p);
  alignas(64) u8 bytes[4 * kLanes] = {};
  if (i % 2 == 0) {
    std::memcpy(bytes, p, static_cast<size_t>(n / 2));
    if (n % 2 != 0) bytes[n / 2] = p[n / 2] & 0xf0;
  } else {
    for (i64 t = 0; t < n / 2; ++t) bytes[t] = static_cast<u8>(p[t] << 4 | p[t + 1] >> 4);
    if (n % 2 != 0) bytes[n / 2] = static_cast<u8>(p[n / 2] << 4);
  }
  return load_codes(bytes);
}

inline RaggedChunk load_ragged(const Weight4bit& w, i64 row, i64 start) {
  const i64 i = row * w.k + start, n = smaller(kChunk, w.k - start);
  RaggedChunk chunk;
  chunk.codes = load_ragged_codes(w.packed, i, n);
  chunk.scale[0] = *absmax_of(w, i);
  chunk.edges = 0;
  for (i64 next = w.block - (i & (w.block - 1)); next < n; next += w.block) {
    chunk.edge[chunk.edges] = static_cast<float>(next) - 0.5f;
    chunk.scale[++chunk.edges] = *absmax_of(w, i + next);
  }
  if (n < kChunk) {
    chunk.edge[chunk.edges] = static_cast<float>(n) - 0.5f;
    chunk.scale[++chunk.edges] = 0.0f;
  }
  return chunk;
}

// Elements [start, start + n) of a row, n rounded up to whole chunks.
inline void decode_ragged(const Weight4bit& w, i64 row, i64 start, i64 n, float* out) {
  const Table16 table = load_table(w.table.values);
  for (i64 at = 0; at < n; at += kChunk) {
    const RaggedChunk chunk = load_ragged(w, row, start + at);
    BITTERN_UNROLL
    for (int j = 0; j < 8; ++j)
      store(out + at + j * kLanes, multiply(numbers(table, chunk.codes, j), chunk.scales(j)));
  }
}

}  // namespace
