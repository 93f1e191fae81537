// SPDX-License-Identifier: Apache-2.0

// A chunk of a row: kLanes words of eight codes, and the scale of each word.
// Included inside the namespace of one instruction set, after its nibbles file and scales.inl.h.
//
// Chunks lie on a grid of the whole weight, not of its rows, so that blocks begin where chunks or words of
// them begin. A row begins behind `lead` elements of the one before it where k is no multiple of the grid;
// inputs are put behind as many zeros. The same leads come back every `period` rows, and rows of one lead are
// multiplied one after the other. So a weight of any k takes the time of one whose blocks fill its rows, but
// for putting the inputs in order once per lead.

namespace {

constexpr i64 kChunk = 8 * kLanes;

// "Lane order": vectors hold the elements of a chunk as decoding them is fastest. The inputs are put in that
// order once per call, and nothing of the weight is ever put back.
struct LaneOrder {
  constexpr explicit LaneOrder(DType type) {
    for (int j = 0; j < 8; ++j) {
      for (int lane = 0; lane < static_cast<int>(kLanes); ++lane) {
        const int at = j * static_cast<int>(kLanes) + lane, e = element_of(type, j, lane);
        element[at] = static_cast<float>(e);
        place[e] = at;
      }
    }
  }
  alignas(64) float element[kChunk] = {};  // at each place
  i32 place[kChunk] = {};                  // of each element
};
constexpr LaneOrder kLaneOrder(DType::f32), kLaneOrderBf16(DType::bf16);
inline const LaneOrder& lane_order(DType type) {
  return type == DType::bf16 ? kLaneOrderBf16 : kLaneOrder;
}

struct Chunk {
  Codes codes;
  F32 scales;
};

// A stretch of a row, counted from the grid's last line at or before the row. Places before `lead` and from
// `end` on belong to other rows.
struct Row {
  i64 base;  // the element of the weight at place 0
  i64 lead, end;
  i64 first_block;
  const float* scales;  // from first_block on
};

struct Grid {
  explicit Grid(const Weight4bit& w)
      : spread(larger(1, kChunk / w.block)),
        weight(w),
        unit(smaller(w.block, kChunk)),
        shift(__builtin_ctzll(static_cast<u64>(w.block))),
        period(unit / ((w.k | unit) & -(w.k | unit))),
        ahead(period == 1 ? kAhead : period * w.k / 2) {}

  i64 lead(i64 row) const { return row * weight.k & (unit - 1); }

  // For places [start, start + n) of it. Scales that are bytes are decoded to `buffer`.
  Row row(i64 row, i64 start, i64 n, float* buffer) const {
    const i64 in_front = lead(row), base = row * weight.k - in_front;
    const i64 first = (base + start) >> shift, last = (base + start + n - 1) >> shift;
    const float* scales = scales_of(weight.scales, first, last - first + 1, buffer);
    if (kScalesTables && weight.type == DType::bf16) scales = quiet_scales(scales, last - first + 1, buffer);
    return {base, in_front, in_front + weight.k, first, scales};
  }

  // Whether the chunk that starts at a place, a multiple of kChunk, is the row's own altogether.
  bool whole(const Row& row, i64 start) const { return start >= row.lead && start + kChunk <= row.end; }

  BITTERN_INLINE Chunk load(const Row& row, i64 start) const {
    return {load_codes(weight.packed + (row.base + start) / 2, ahead), spread(scale(row, start))};
  }

  // Any chunk. What lies behind the weight is 0.
  BITTERN_INLINE Chunk load_any(const Row& row, i64 start) const {
    if (row.base + start + kChunk <= weight.n * weight.k) return load(row, start);
    alignas(64) u8 bytes[4 * kLanes] = {};
    float scales[kLanes] = {};
    const i64 n = smaller(kChunk, row.end - start);
    std::memcpy(bytes, weight.packed + (row.base + start) / 2, static_cast<size_t>(ceil_div(n, 2)));
    for (i64 i = 0; i < ceil_div(n, weight.block); ++i) scales[i] = scale(row, start)[i];
    return {load_codes(bytes, 0), spread(scales)};
  }

  const float* scale(const Row& row, i64 start) const {
    return row.scales + (((row.base + start) >> shift) - row.first_block);
  }

  Spread spread;  // of the scales of a chunk
  const Weight4bit& weight;
  i64 unit;    // lines of the grid
  int shift;   // a block has 2^shift elements
  i64 period;  // rows after which a lead comes back
  i64 ahead;   // bytes to codes that are asked for
};

// The places of a chunk that are the row's own, between two numbers: others count as 0, for times an input of
// 0 an infinite number would be NaN.
struct Own {
  Own(DType type, const Row& row, i64 start)
      : elements(lane_order(type).element),
        first(splat(static_cast<float>(larger(row.lead - start, 0)) - 0.5f)),
        end(splat(static_cast<float>(smaller(row.end - start, kChunk)) - 0.5f)) {}
  // Vector j of numbers.
  F32 operator()(int j, F32 x) const {
    const F32 element = load(elements + j * kLanes), none = splat(0.0f);
    return select(greater(element, first), select(greater(end, element), x, none), none);
  }
  const float* elements;
  F32 first, end;
};

// ---- numbers of a chunk, rounded to the type of the call

// Rounds to a type and widens again.
inline F32 rounded_to(DType type, F32 x) {
  return type == DType::bf16 ? through_bf16(x) : type == DType::f16 ? through_f16(x) : x;
}

// Whether tables are scaled and rounded, instead of the numbers that are looked up in them.
template <DType kType>
constexpr bool kRounded = kScalesTables && kType != DType::f32;

template <DType kType>
inline auto numbers_from(const float* values) {
  if constexpr (kRounded<kType>) {
    return entries_of(values, As<kType>{});
  } else {
    return load_table(values);
  }
}

// What a chunk needs besides: its own table, or nothing where all chunks have the same.
struct NoTable {};
template <DType kType, class From>
BITTERN_INLINE auto table_of(const Chunk& chunk, const From& from, [[maybe_unused]] bool one_scale) {
  if constexpr (kRounded<kType>) {
    return scaled_table(from, chunk.scales, one_scale, As<kType>{});
  } else {
    return NoTable{};
  }
}

// A chunk that is ready to be decoded. Loops get one while they multiply by the one before it: from a scale
// to a number of a scaled table it takes as long as the products of two chunks.
template <class Table>
struct ReadyChunk {
  Chunk chunk;
  Table table;
};

template <DType kType>
struct Decoder {
  using Ready = ReadyChunk<decltype(table_of<kType>(Chunk{}, numbers_from<kType>(nullptr), false))>;
  explicit Decoder(const Weight4bit& w)
      : from(numbers_from<kType>(w.table.values)), one_scale(w.block >= kChunk) {}

  BITTERN_INLINE Ready ready(const Chunk& chunk) const {
    return {chunk, table_of<kType>(chunk, from, one_scale)};
  }

  // Vector j of a chunk; float32 numbers are scaled by the caller.
  BITTERN_INLINE F32 unscaled(const Ready& r, int j) const {
    if constexpr (kRounded<kType>) {
      return numbers(r.table, r.chunk.codes, j);
    } else {
      return numbers(from, r.chunk.codes, j);
    }
  }
  BITTERN_INLINE F32 number(const Ready& r, int j) const {
    const F32 found = unscaled(r, j);
    return kRounded<kType> ? found : rounded_to(kType, multiply(found, r.chunk.scales));
  }

  decltype(numbers_from<kType>(nullptr)) from;
  bool one_scale;  // for a whole chunk
};

// Places [start, start + n) of a row, n rounded up to whole chunks; those of other rows are 0.
template <DType kType>
inline void decode_as(const Grid& grid, const Row& row, i64 start, i64 n, float* out) {
  const Decoder<kType> decoder(grid.weight);
  auto next = decoder.ready(grid.load_any(row, start));
  for (i64 at = start; at < start + n; at += kChunk, out += kChunk) {
    const auto now = next;
    if (grid.whole(row, at + kChunk)) {
      next = decoder.ready(grid.load(row, at + kChunk));
    } else if (at + kChunk < start + n) {
      next = decoder.ready(grid.load_any(row, at + kChunk));
    }
    BITTERN_UNROLL
    for (int j = 0; j < 8; ++j) store(out + j * kLanes, decoder.number(now, j));
    if (grid.whole(row, at)) continue;
    const Own own(kType, row, at);
    for (int j = 0; j < 8; ++j) store(out + j * kLanes, own(j, load(out + j * kLanes)));
  }
}

inline void decode(const Grid& grid, const Row& row, i64 start, i64 n, float* out) {
  switch (grid.weight.type) {
    case DType::bf16:
      return decode_as<DType::bf16>(grid, row, start, n, out);
    case DType::f16:
      return decode_as<DType::f16>(grid, row, start, n, out);
    default:
      return decode_as<DType::f32>(grid, row, start, n, out);
  }
}

}  // namespace
