// SPDX-License-Identifier: Apache-2.0

// A chunk of a row: kLanes words of eight codes, and the scale of each word.
// Included inside the namespace of one instruction set, after its nibbles file.

namespace {

constexpr i64 kChunk = 8 * kLanes;

// "Lane order": vectors hold the elements of a chunk as decoding them is fastest. The inputs are put in that
// order once per call, and nothing of the weight is ever put back.
struct LaneOrder {
  constexpr LaneOrder() {
    for (int j = 0; j < 8; ++j) {
      for (int lane = 0; lane < static_cast<int>(kLanes); ++lane) {
        const int at = j * static_cast<int>(kLanes) + lane, e = element_of(j, lane);
        element[at] = static_cast<float>(e);
        place[e] = at;
      }
    }
  }
  alignas(64) float element[kChunk] = {};  // at each place
  i32 place[kChunk] = {};                  // of each element
};
constexpr LaneOrder kLaneOrder;

struct Chunk {
  Codes codes;
  F32 scales;
};

// A weight whose blocks start anew with each row: k is a multiple of the block.
struct WordChunks {
  explicit WordChunks(const Weight4bit& w)
      : spread(larger(1, kChunk / w.block)),
        k(w.k),
        block(w.block),
        shift(__builtin_ctzll(static_cast<u64>(w.block))) {}

  struct Row {
    const u8* codes;
    const float* absmax;
  };
  Row row(const Weight4bit& w, i64 row) const {
    return {w.packed + row * k / 2, w.absmax + (row * k >> shift)};
  }

  // From element `start` on, a multiple of kChunk. The last chunk of a row may be short.
  Chunk load(const Row& row, i64 start) const {
    const u8* codes = row.codes + start / 2;
    const float* absmax = row.absmax + (start >> shift);
    if (k - start < kChunk) return load_short(codes, absmax, k - start);
    return {load_codes(codes), spread(absmax)};
  }

  // Codes and scales that are not there are 0.
  Chunk load_short(const u8* codes, const float* absmax, i64 n) const {
    alignas(64) u8 bytes[4 * kLanes] = {};
    float scales[kLanes] = {};
    std::memcpy(bytes, codes, static_cast<size_t>(n / 2));
    for (i64 i = 0; i < ceil_div(n, block); ++i) scales[i] = absmax[i];
    return {load_codes(bytes), spread(scales)};
  }

  F32 scales(const Chunk& chunk, int) const { return chunk.scales; }

  Spread spread;  // of the absmax of a chunk
  i64 k, block;
  int shift;  // a block has 2^shift elements
};

// Elements [start, start + n) of a row, n rounded up to whole chunks.
inline void decode_chunks(const Weight4bit& w, i64 row, i64 start, i64 n, float* out) {
  const Table16 table = load_table(w.table.values);
  const WordChunks chunks(w);
  const WordChunks::Row codes = chunks.row(w, row);
  for (i64 at = 0; at < n; at += kChunk) {
    const Chunk chunk = chunks.load(codes, start + at);
    BITTERN_UNROLL
    for (int j = 0; j < 8; ++j)
      store(out + at + j * kLanes, multiply(numbers(table, chunk.codes, j), chunk.scales));
  }
}

}  // namespace
