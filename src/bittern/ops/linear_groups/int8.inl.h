// SPDX-License-Identifier: Apache-2.0

// Products of codes: inputs in int8 by rows, sums of a group exact in int32, whatever the order. A panel
// holds the quads of some columns, one byte a code, in the first cache, while all inputs pass by. Where
// products of two bytes are summed in 16 bits, 8 bits are two planes of 4, the lower ones first. Included
// inside the namespace of one instruction set, after inputs.inl.h.

namespace {

constexpr i64 kCodePanelTiles = kRows > 16 ? 16 : 32;  // of columns; a multiple of those of the largest group
constexpr i64 kCodeTileWords = kQuads * kRows;         // of a tile of columns in a panel
constexpr int kNibble = 15;

template <int kBits>
constexpr int planes_of() {
  return (1 << kBits) - 1 > kMostCode ? 2 : 1;
}

// [planes][quads][kRows] words, of `tiles` tiles of columns from `first` on.
template <int kBits>
void decode_codes(const RowTile& tile, i64 first, i64 tiles, u32* panel) {
  u32* high = panel + kCodePanelTiles * kCodeTileWords;
  for (i64 c = first; c < first + tiles; ++c) {
    for (int v = 0; v < kTileVectors; ++v) {
      const u32* words = tile.words(v, c);
      BITTERN_UNROLL
      for (int t = 0; t < kQuads; ++t) {
        const Quads q = quad<kBits>(words, t);
        const i64 at = ((c - first) * kQuads + t) * kRows + v * kLanes;
        if (planes_of<kBits>() == 1) {
          store_quads(panel + at, q);
        } else {
          store_quads(panel + at, field(q, 0, kNibble));
          store_quads(high + at, field(q, 4, kNibble));
        }
      }
    }
  }
}

template <int kInputs>
using NarrowSums = Narrow[kInputs][kTileVectors];

template <int kInputs>
BITTERN_INLINE void clear(NarrowSums<kInputs>& sum) {
  BITTERN_UNROLL
  for (int i = 0; i < kInputs; ++i) {
    BITTERN_UNROLL
    for (int v = 0; v < kTileVectors; ++v) sum[i][v] = narrow_zero();
  }
}

// total [kInputs][kTileVectors] += sum
template <int kInputs>
BITTERN_INLINE void add_widened(const NarrowSums<kInputs>& sum, I32* total) {
  BITTERN_UNROLL
  for (int i = 0; i < kInputs; ++i) {
    BITTERN_UNROLL
    for (int v = 0; v < kTileVectors; ++v)
      total[i * kTileVectors + v] = add(total[i * kTileVectors + v], widened(sum[i][v]));
  }
}

template <int kInputs>
BITTERN_INLINE void add_quad(const Quads (&w)[kTileVectors], const std::int8_t* x, i64 pitch,
                             NarrowSums<kInputs>& sum) {
  BITTERN_UNROLL
  for (int i = 0; i < kInputs; ++i) {
    const Quads input = splat_quad(x + i * pitch);
    BITTERN_UNROLL
    for (int v = 0; v < kTileVectors; ++v) sum[i][v] = step(sum[i][v], w[v], input);
  }
}

template <int kInputs>
BITTERN_INLINE void add_panel_quad(const u32* words, const std::int8_t* x, i64 pitch,
                                   NarrowSums<kInputs>& sum) {
  Quads w[kTileVectors];
  BITTERN_UNROLL
  for (int v = 0; v < kTileVectors; ++v) w[v] = load_quads(words + v * kLanes);
  add_quad<kInputs>(w, x, pitch, sum);
}

// total [kInputs][kTileVectors] += of `tiles` tiles of columns. Not inlined: its registers are all taken.
template <int kInputs>
__attribute__((noinline)) void add_codes(const u32* panel, i64 tiles, const std::int8_t* x, i64 pitch,
                                         I32* total) {
  NarrowSums<kInputs> sum;
  if (!kNarrows) {
    clear<kInputs>(sum);
    for (i64 t = 0; t < tiles * kQuads; ++t)
      add_panel_quad<kInputs>(panel + t * kRows, x + 4 * t, pitch, sum);
    return add_widened<kInputs>(sum, total);
  }
  for (; tiles > 0; --tiles, panel += kCodeTileWords, x += kTileColumns) {
    clear<kInputs>(sum);
    BITTERN_UNROLL
    for (int t = 0; t < kQuads; ++t) add_panel_quad<kInputs>(panel + t * kRows, x + 4 * t, pitch, sum);
    add_widened<kInputs>(sum, total);
  }
}

struct CodeSums {
  float* y;    // [inputs, kRows]
  i32* carry;  // [inputs, kRows]: of a group that goes on in the next panel
};

// fma(fma(-zero, X, S), scale, y)
template <int kInputs>
inline void end_group(const Inputs& in, const RowTile& tile, i64 g, i64 first_input, const I32* total,
                      float* y) {
  for (int v = 0; v < kTileVectors; ++v) {
    const F32 scale = tile.scale(v, g), zero = tile.zero(v, g);
    BITTERN_UNROLL
    for (int i = 0; i < kInputs; ++i) {
      const F32 input_sum = splat(in.group_sums(first_input + i)[g]);
      const F32 sum = subtract_product(to_float(total[i * kTileVectors + v]), zero, input_sum);
      float* place = y + i * kRows + v * kLanes;
      store(place, multiply_add(sum, scale, load(place)));
    }
  }
}

// total += 16 high
template <int kInputs>
inline void add_high(I32* high, I32* total) {
  for (int j = 0; j < kInputs * kTileVectors; ++j) {
    for (int doubled = 0; doubled < 4; ++doubled) high[j] = add(high[j], high[j]);
    total[j] = add(total[j], high[j]);
  }
}

// ---- few inputs: codes come from memory into registers and are used there

template <int kBits, int kInputs>
BITTERN_INLINE void add_code_tile(const RowTile& tile, i64 column_tile, const std::int8_t* x, i64 pitch,
                                  NarrowSums<kInputs>& low, NarrowSums<kInputs>& high) {
  BITTERN_UNROLL
  for (int t = 0; t < kQuads; ++t) {
    Quads w[kTileVectors], upper[kTileVectors];
    BITTERN_UNROLL
    for (int v = 0; v < kTileVectors; ++v) {
      w[v] = quad<kBits>(tile.words(v, column_tile), t);
      if (planes_of<kBits>() == 2) {
        upper[v] = field(w[v], 4, kNibble);
        w[v] = field(w[v], 0, kNibble);
      }
    }
    add_quad<kInputs>(w, x + 4 * t, pitch, low);
    if (planes_of<kBits>() == 2) add_quad<kInputs>(upper, x + 4 * t, pitch, high);
  }
}

template <int kBits, int kInputs>
void multiply_few_codes(const Inputs& in, const RowTile& tile, float* y) {
  const WeightGroups& w = tile.weight;
  const i64 tiles = w.column_tiles(), group_tiles = w.group / kTileColumns;
  for (int i = 0; i < kInputs * kRows; ++i) y[i] = 0;
  for (i64 g = 0; g * group_tiles < tiles; ++g) {
    I32 total[kInputs * kTileVectors], total_high[kInputs * kTileVectors];
    BITTERN_UNROLL
    for (int j = 0; j < kInputs * kTileVectors; ++j) total[j] = total_high[j] = splat(i32{0});
    for (i64 c = g * group_tiles; c < smaller(tiles, (g + 1) * group_tiles); ++c) {
      NarrowSums<kInputs> low, high;
      clear<kInputs>(low);
      clear<kInputs>(high);
      add_code_tile<kBits, kInputs>(tile, c, in.codes + c * kTileColumns, in.pitch, low, high);
      add_widened<kInputs>(low, total);
      if (planes_of<kBits>() == 2) add_widened<kInputs>(high, total_high);
    }
    if (planes_of<kBits>() == 2) add_high<kInputs>(total_high, total);
    end_group<kInputs>(in, tile, g, 0, total, y);
  }
}

template <int kBits>
inline void multiply_few_codes_of(const Inputs& in, const RowTile& tile, float* y) {
  (in.call->m == 1 ? multiply_few_codes<kBits, 1> : multiply_few_codes<kBits, kFewInputs>)(in, tile, y);
}

// ---- more inputs

// Tiles of columns [first, end) of a panel that begins with `first`, group after group.
template <int kInputs>
void multiply_groups(const Inputs& in, const RowTile& tile, int planes, const u32* panel, i64 first, i64 end,
                     i64 first_input, CodeSums sums) {
  const WeightGroups& w = tile.weight;
  const i64 group_tiles = w.group / kTileColumns;
  for (i64 c = first; c < end;) {
    const i64 g = c / group_tiles, stop = smaller(end, (g + 1) * group_tiles);
    I32 total[kInputs * kTileVectors], high[kInputs * kTileVectors];
    for (int j = 0; j < kInputs * kTileVectors; ++j)
      total[j] = c == g * group_tiles ? splat(i32{0}) : load(sums.carry + j * kLanes);
    const std::int8_t* x = in.codes + first_input * in.pitch + c * kTileColumns;
    const u32* words = panel + (c - first) * kCodeTileWords;
    add_codes<kInputs>(words, stop - c, x, in.pitch, total);
    if (planes == 2) {
      for (I32& sum : high) sum = splat(i32{0});
      add_codes<kInputs>(words + kCodePanelTiles * kCodeTileWords, stop - c, x, in.pitch, high);
      add_high<kInputs>(high, total);
    }
    if (stop == (g + 1) * group_tiles || stop == w.column_tiles()) {
      end_group<kInputs>(in, tile, g, first_input, total, sums.y);
    } else {
      for (int j = 0; j < kInputs * kTileVectors; ++j) store(sums.carry + j * kLanes, total[j]);
    }
    c = stop;
  }
}

using MultiplyGroups = void (*)(const Inputs&, const RowTile&, int, const u32*, i64, i64, i64, CodeSums);
constexpr MultiplyGroups kMultiplyGroups[kInputTile] = {multiply_groups<1>, multiply_groups<2>,
                                                        multiply_groups<3>, multiply_groups<4>,
                                                        multiply_groups<5>, multiply_groups<6>};

template <int kBits>
void multiply_codes(const Inputs& in, const RowTile& tile, i64 first_input, i64 inputs, CodeSums sums) {
  u32* panel = scratch_array<u32>(Scratch::linear_panel, 2 * kCodePanelTiles * kCodeTileWords);
  const i64 tiles = tile.weight.column_tiles(), parts = ceil_div(inputs, kInputTile);
  for (i64 i = 0; i < inputs * kRows; ++i) sums.y[i] = 0;
  for (i64 c = 0; c < tiles; c += kCodePanelTiles) {
    const i64 count = smaller(kCodePanelTiles, tiles - c);
    decode_codes<kBits>(tile, c, count, panel);
    for (i64 p = 0; p < parts; ++p) {
      const i64 i = cut(inputs, parts, p), size = cut(inputs, parts, p + 1) - i;
      kMultiplyGroups[size - 1](in, tile, planes_of<kBits>(), panel, c, c + count, first_input + i,
                                {sums.y + i * kRows, sums.carry + i * kRows});
    }
  }
}

template <int kBits>
void int8_task(void* context, i64 index) {
  const Inputs& in = *static_cast<const Inputs*>(context);
  const i64 m = in.call->m, most = smaller(m, kInputBlock);
  float* y = scratch_array<float>(Scratch::linear_sums, 2 * most * kRows);
  const CodeSums sums{y, reinterpret_cast<i32*>(y + most * kRows)};
  for (i64 t = index * kTaskTiles; t < (index + 1) * kTaskTiles && t * kRows < in.weight->n; ++t) {
    const RowTile tile(*in.weight, t);
    if (m <= kFewInputs) {
      multiply_few_codes_of<kBits>(in, tile, y);
      store_results(*in.call, tile, 0, m, y, in.steps);
      continue;
    }
    for (i64 first = 0; first < m; first += kInputBlock) {
      const i64 inputs = smaller(kInputBlock, m - first);
      multiply_codes<kBits>(in, tile, first, inputs, sums);
      store_results(*in.call, tile, first, inputs, sums.y, in.steps);
    }
  }
}

inline Task int8_task_of(int bits) {
  return bits == 2 ? int8_task<2> : bits == 3 ? int8_task<3> : bits == 4 ? int8_task<4> : int8_task<8>;
}

void int8(const LinearGroupsCall& call, const WeightGroups& weight, int threads) {
  if (call.m == 0 || weight.n == 0) return;
  Inputs in = inputs_of(call, weight, true);
  parallel_for(call.m, threads, quantize_task, &in);
  parallel_for(tasks_of(weight), threads, int8_task_of(weight.bits), &in);
}

}  // namespace
