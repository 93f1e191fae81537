// SPDX-License-Identifier: Apache-2.0

// A chunk of a row: kLanes words of eight codes, and the scale of each word.
// Included inside the namespace of one instruction set, after its nibbles file.

namespace {

constexpr i64 kChunk = 8 * kLanes;

struct Chunk {
  Codes codes;
  F32 scales;
};

// How many absmax a chunk has.
inline i64 scales_per_chunk(const Weight4bit& w) {
  return larger(1, kChunk / w.block);
}

// The last chunk of a row may be short: codes and scales that are not there are 0.
inline Chunk load_short_chunk(const Weight4bit& w, const Spread& spread, const u8* codes, const float* absmax,
                              i64 n) {
  alignas(64) u8 bytes[4 * kLanes] = {};
  float scales[kLanes] = {};
  std::memcpy(bytes, codes, static_cast<size_t>(n / 2));
  for (i64 i = 0; i < ceil_div(n, w.block); ++i) scales[i] = absmax[i];
  return {load_codes(bytes), spread(scales)};
}

// k must be a multiple of the block, start one of kChunk.
inline Chunk load_chunk(const Weight4bit& w, const Spread& spread, i64 row, i64 start) {
  const u8* codes = w.packed + (row * w.k + start) / 2;
  const float* absmax = absmax_of(w, row * w.k + start);
  if (w.k - start < kChunk) return load_short_chunk(w, spread, codes, absmax, w.k - start);
  return {load_codes(codes), spread(absmax)};
}

// Elements [start, start + n) of a row, n rounded up to whole chunks.
inline void decode_chunks(const Weight4bit& w, i64 row, i64 start, i64 n, float* out) {
  const Table16 table = load_table(w.table.values);
  const Spread spread(scales_per_chunk(w));
  for (i64 at = 0; at < n; at += kChunk) {
    const Chunk chunk = load_chunk(w, spread, row, start + at);
    BITTERN_UNROLL
    for (int j = 0; j < 8; ++j)
      store(out + at + j * kLanes, multiply(numbers(table, chunk.codes, j), chunk.scales));
  }
}

}  // namespace
