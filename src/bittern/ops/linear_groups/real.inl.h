// SPDX-License-Identifier: Apache-2.0

// Products in float32. One or two inputs: codes become numbers in registers, and their scale multiplies the
// sum of a group. More inputs: rows x columns of W in float32 go to a panel that stays in the first cache
// while all inputs pass by.
// Included inside the namespace of one instruction set, after inputs.inl.h.

namespace {

constexpr i64 kFewInputs = 2;
constexpr i64 kPanelTiles = kRows > 16 ? 4 : 8;  // of columns; 16 or 32 KB in all
constexpr i64 kInputBlock = 512;                 // inputs that share a decoded panel

// ---- one or two inputs

// sums += of one tile of columns; x [kInputs] rows from that column on. kChains sums run side by side, since
// a fused multiply-add takes several cycles.
template <int kBits, int kInputs, int kChains>
BITTERN_INLINE void add_column_tile(const RowTile& tile, i64 column_tile, const float* x, i64 pitch,
                                    F32 (&part)[kTileVectors][kInputs][kChains]) {
  BITTERN_UNROLL
  for (int t = 0; t < kQuads; ++t) {
    Quads q[kTileVectors];
    BITTERN_UNROLL
    for (int v = 0; v < kTileVectors; ++v)
      q[v] = centered(quad<kBits>(tile.words(v, column_tile), t), 1 << (kBits - 1));
    BITTERN_UNROLL
    for (int byte = 0; byte < 4; ++byte) {
      F32 input[kInputs];
      BITTERN_UNROLL
      for (int i = 0; i < kInputs; ++i) input[i] = splat(x[i * pitch + 4 * t + byte]);
      BITTERN_UNROLL
      for (int v = 0; v < kTileVectors; ++v) {
        const F32 value = signed_number(q[v], byte);
        BITTERN_UNROLL
        for (int i = 0; i < kInputs; ++i)
          part[v][i][byte % kChains] = multiply_add(value, input[i], part[v][i][byte % kChains]);
      }
    }
  }
}

template <int kBits, int kInputs>
void multiply_few(const Inputs& in, const RowTile& tile, float* sums) {
  constexpr int kChains = kTileVectors * kInputs >= 8 ? 1 : kTileVectors * kInputs >= 4 ? 2 : 4;
  const WeightGroups& w = tile.weight;
  const float half = static_cast<float>(1 << (kBits - 1));
  const i64 tiles = w.column_tiles(), group_tiles = w.group / kTileColumns;
  F32 total[kTileVectors][kInputs];
  for (int v = 0; v < kTileVectors; ++v) {
    for (int i = 0; i < kInputs; ++i) total[v][i] = splat(0.0f);
  }
  for (i64 g = 0; g < w.groups(); ++g) {
    F32 part[kTileVectors][kInputs][kChains];
    BITTERN_UNROLL
    for (int v = 0; v < kTileVectors; ++v) {
      BITTERN_UNROLL
      for (int i = 0; i < kInputs; ++i) {
        BITTERN_UNROLL
        for (int c = 0; c < kChains; ++c) part[v][i][c] = splat(0.0f);
      }
    }
    for (i64 c = g * group_tiles; c < smaller(tiles, (g + 1) * group_tiles); ++c)
      add_column_tile<kBits, kInputs, kChains>(tile, c, in.numbers + c * kTileColumns, in.pitch, part);
    BITTERN_UNROLL
    for (int v = 0; v < kTileVectors; ++v) {
      const F32 scale = tile.scale(v, g);
      BITTERN_UNROLL
      for (int i = 0; i < kInputs; ++i) {
        F32 sum = part[v][i][0];
        BITTERN_UNROLL
        for (int c = 1; c < kChains; ++c) sum = add(sum, part[v][i][c]);
        if (w.zero != nullptr)
          sum = subtract_product(sum, subtract(tile.zero(v, g), splat(half)), splat(in.group_sums(i)[g]));
        total[v][i] = multiply_add(sum, scale, total[v][i]);
      }
    }
  }
  for (int v = 0; v < kTileVectors; ++v) {
    for (int i = 0; i < kInputs; ++i) store(sums + i * kRows + v * kLanes, total[v][i]);
  }
}

// ---- more inputs

// W as [columns, kRows], of `tiles` tiles of columns from `first` on.
template <int kBits>
void decode_panel(const RowTile& tile, i64 first, i64 tiles, float* panel) {
  const i64 group_tiles = tile.weight.group / kTileColumns;
  for (i64 c = first; c < first + tiles; ++c, panel += kTileColumns * kRows) {
    for (int v = 0; v < kTileVectors; ++v) {
      const F32 scale = tile.scale(v, c / group_tiles), zero = tile.zero(v, c / group_tiles);
      const u32* words = tile.words(v, c);
      BITTERN_UNROLL
      for (int t = 0; t < kQuads; ++t) {
        const Quads q = quad<kBits>(words, t);
        BITTERN_UNROLL
        for (int byte = 0; byte < 4; ++byte)
          store(panel + (4 * t + byte) * kRows + v * kLanes,
                multiply(subtract(number(q, byte), zero), scale));
      }
    }
  }
}

// sums [kInputs, kRows] += of `columns` columns. Not inlined: its registers are all taken.
template <int kInputs>
__attribute__((noinline)) void add_panel(const float* panel, i64 columns, const float* x, i64 pitch,
                                         float* sums) {
  F32 sum[kInputs][kTileVectors];
  BITTERN_UNROLL
  for (int i = 0; i < kInputs; ++i) {
    BITTERN_UNROLL
    for (int v = 0; v < kTileVectors; ++v) sum[i][v] = load(sums + i * kRows + v * kLanes);
  }
  for (i64 e = 0; e < columns; ++e) {
    F32 value[kTileVectors];
    BITTERN_UNROLL
    for (int v = 0; v < kTileVectors; ++v) value[v] = load(panel + e * kRows + v * kLanes);
    BITTERN_UNROLL
    for (int i = 0; i < kInputs; ++i) {
      const F32 input = splat(x[i * pitch + e]);
      BITTERN_UNROLL
      for (int v = 0; v < kTileVectors; ++v) sum[i][v] = multiply_add(value[v], input, sum[i][v]);
    }
  }
  BITTERN_UNROLL
  for (int i = 0; i < kInputs; ++i) {
    BITTERN_UNROLL
    for (int v = 0; v < kTileVectors; ++v) store(sums + i * kRows + v * kLanes, sum[i][v]);
  }
}

inline void add_panel_to(i64 inputs, const float* panel, i64 columns, const float* x, i64 pitch,
                         float* sums) {
  switch (inputs) {
    case 1:
      return add_panel<1>(panel, columns, x, pitch, sums);
    case 2:
      return add_panel<2>(panel, columns, x, pitch, sums);
    case 3:
      return add_panel<3>(panel, columns, x, pitch, sums);
    case 4:
      return add_panel<4>(panel, columns, x, pitch, sums);
    case 5:
      return add_panel<5>(panel, columns, x, pitch, sums);
    default:
      return add_panel<6>(panel, columns, x, pitch, sums);
  }
}

template <int kBits>
void multiply_many(const Inputs& in, const RowTile& tile, i64 first_input, i64 inputs, float* sums) {
  float* panel = scratch_array<float>(Scratch::linear_panel, kPanelTiles * kTileColumns * kRows);
  const i64 tiles = tile.weight.column_tiles(), parts = ceil_div(inputs, kInputTile);
  for (i64 i = 0; i < inputs * kRows; ++i) sums[i] = 0;
  for (i64 c = 0; c < tiles; c += kPanelTiles) {
    const i64 count = smaller(kPanelTiles, tiles - c);
    decode_panel<kBits>(tile, c, count, panel);
    const float* x = in.numbers + first_input * in.pitch + c * kTileColumns;
    for (i64 p = 0; p < parts; ++p) {
      const i64 i = cut(inputs, parts, p);
      add_panel_to(cut(inputs, parts, p + 1) - i, panel, count * kTileColumns, x + i * in.pitch, in.pitch,
                   sums + i * kRows);
    }
  }
}

template <int kBits>
void real_task(void* context, i64 index) {
  const Inputs& in = *static_cast<const Inputs*>(context);
  const i64 m = in.call->m;
  float* sums = scratch_array<float>(Scratch::linear_sums, smaller(m, kInputBlock) * kRows);
  for (i64 t = index * kTaskTiles; t < (index + 1) * kTaskTiles && t * kRows < in.weight->n; ++t) {
    const RowTile tile(*in.weight, t);
    if (m <= kFewInputs) {
      (m == 1 ? multiply_few<kBits, 1> : multiply_few<kBits, kFewInputs>)(in, tile, sums);
      store_results(*in.call, tile, 0, m, sums, nullptr);
      continue;
    }
    for (i64 first = 0; first < m; first += kInputBlock) {
      const i64 inputs = smaller(kInputBlock, m - first);
      multiply_many<kBits>(in, tile, first, inputs, sums);
      store_results(*in.call, tile, first, inputs, sums, nullptr);
    }
  }
}

inline Task real_task_of(int bits) {
  return bits == 2 ? real_task<2> : bits == 3 ? real_task<3> : bits == 4 ? real_task<4> : real_task<8>;
}

void real(const LinearGroupsCall& call, const WeightGroups& weight, int threads) {
  if (call.m == 0 || weight.n == 0) return;
  Inputs in = inputs_of(call, weight, false);
  parallel_for(call.m, threads, widen_task, &in);
  parallel_for(tasks_of(weight), threads, real_task_of(weight.bits), &in);
}

// ---- the weight itself

struct DecodeJob {
  const WeightGroups* weight;
  DType type;
  void* out;
};

template <int kBits>
void decode_task(void* context, i64 index) {
  const DecodeJob& job = *static_cast<const DecodeJob*>(context);
  const WeightGroups& w = *job.weight;
  const RowTile tile(w, index);
  float* panel = scratch_array<float>(Scratch::linear_panel, kPanelTiles * kTileColumns * kRows);
  for (i64 c = 0; c < w.column_tiles(); c += kPanelTiles) {
    const i64 first = c * kTileColumns, columns = smaller(kPanelTiles * kTileColumns, w.k - first);
    decode_panel<kBits>(tile, c, smaller(kPanelTiles, w.column_tiles() - c), panel);
    for (i64 r = 0; r < smaller(kRows, w.n - tile.first); ++r) {
      for (i64 e = 0; e < columns; ++e)
        store_as(job.out, job.type, (tile.first + r) * w.k + first + e, panel[e * kRows + r]);
    }
  }
}

inline Task decode_task_of(int bits) {
  return bits == 2   ? decode_task<2>
         : bits == 3 ? decode_task<3>
         : bits == 4 ? decode_task<4>
                     : decode_task<8>;
}

void decode(const WeightGroups& weight, DType type, void* out, int threads) {
  DecodeJob job{&weight, type, out};
  parallel_for(ceil_div(weight.n, kRows), threads, decode_task_of(weight.bits), &job);
}

}  // namespace
