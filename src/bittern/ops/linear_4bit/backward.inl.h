// SPDX-License-Identifier: Apache-2.0

// The gradient of the input: numbers of a panel along the lanes, one factor per row and input. Included
// inside the namespace of one instruction set, after kernel.inl.h.

namespace {

constexpr i64 kBackwardInputs = 4, kBackwardBlock = 32;
constexpr int kVectorTile = kRegisters == 32 ? 4 : 2;

// Places and rows of a panel, 32 KB of it: rows without a lead, and others, for which a chunk more than the
// columns is decoded.
struct PanelShape {
  i64 width, rows;
};
constexpr PanelShape kBackwardPanel{512, 16}, kLeadPanel{1024, 8};
inline PanelShape backward_panel_shape(const Grid& grid) {
  return grid.period == 1 ? kBackwardPanel : kLeadPanel;
}
inline i64 backward_columns(const Grid& grid) {
  return grid.period == 1 ? kBackwardPanel.width : kLeadPanel.width - kChunk;
}

// A panel, and the factors of its first row, step rows apart in memory.
struct Factors {
  const float* of_rows;
  i64 step, pitch;
};

template <int kInputs>
inline void add_rows(const float* panel, i64 width, const Factors& factors, i64 rows, i64 length,
                     float* sums) {
  for (i64 at = 0; at < length; at += kVectorTile * kLanes) {
    F32 sum[kInputs][kVectorTile];
    BITTERN_UNROLL
    for (int i = 0; i < kInputs; ++i) {
      BITTERN_UNROLL
      for (int v = 0; v < kVectorTile; ++v) sum[i][v] = load(sums + i * width + at + v * kLanes);
    }
    for (i64 r = 0; r < rows; ++r) {
      F32 value[kVectorTile];
      BITTERN_UNROLL
      for (int v = 0; v < kVectorTile; ++v) value[v] = load(panel + r * width + at + v * kLanes);
      BITTERN_UNROLL
      for (int i = 0; i < kInputs; ++i) {
        const F32 factor = splat(factors.of_rows[i * factors.pitch + r * factors.step]);
        BITTERN_UNROLL
        for (int v = 0; v < kVectorTile; ++v) sum[i][v] = multiply_add(value[v], factor, sum[i][v]);
      }
    }
    BITTERN_UNROLL
    for (int i = 0; i < kInputs; ++i) {
      BITTERN_UNROLL
      for (int v = 0; v < kVectorTile; ++v) store(sums + i * width + at + v * kLanes, sum[i][v]);
    }
  }
}

inline void add_rows_to(i64 inputs, const float* panel, i64 width, Factors factors, i64 rows, i64 length,
                        float* sums) {
  i64 i = 0;
  for (; i + kBackwardInputs <= inputs; i += kBackwardInputs) {
    add_rows<kBackwardInputs>(panel, width, factors, rows, length, sums + i * width);
    factors.of_rows += kBackwardInputs * factors.pitch;
  }
  for (; i < inputs; ++i) {
    add_rows<1>(panel, width, factors, rows, length, sums + i * width);
    factors.of_rows += factors.pitch;
  }
}

// sums [inputs, width of a panel], in lane order, of the rows of a set at places from `start` on.
inline void sum_rows(const Linear4bitJob& job, const Grid& grid, const RowSet& set, i64 start, i64 n,
                     i64 first_input, i64 inputs, float* sums) {
  const PanelShape shape = backward_panel_shape(grid);
  float* panel = scratch_array<float>(Scratch::linear_panel, shape.rows * shape.width);
  float* scales = scale_buffer(grid.weight, 1, shape.width);
  std::memset(sums, 0, static_cast<size_t>(inputs * shape.width) * sizeof(float));
  for (i64 t = 0; t < set.count; t += shape.rows) {
    const i64 rows = smaller(shape.rows, set.count - t);
    for (i64 r = 0; r < rows; ++r)
      decode(grid, grid.row(set.at(t + r), start, n, scales), start, n, panel + r * shape.width);
    const Factors factors{job.x + first_input * grid.weight.n + set.at(t), set.step, grid.weight.n};
    add_rows_to(inputs, panel, shape.width, factors, rows, padded(n), sums);
  }
}

// Columns [column, column + columns) of a few gradients: a sum for each lead, at places of its own.
inline void backward_panel(const Linear4bitJob& job, const Grid& grid, i64 column, i64 first_input,
                           i64 inputs) {
  const Weight4bit& w = *job.weight;
  const i64 columns = smaller(backward_columns(grid), w.k - column), width = backward_panel_shape(grid).width;
  float* sums = scratch_array<float>(Scratch::linear_sums, inputs * (width + columns));
  float* total = sums + inputs * width;
  std::memset(total, 0, static_cast<size_t>(inputs * columns) * sizeof(float));
  for (i64 first = 0; first < smaller(grid.period, w.n); ++first) {
    const i64 lead = grid.lead(first), n = smaller(padded(lead + columns), lead + w.k - column);
    sum_rows(job, grid, {first, grid.period, ceil_div(w.n - first, grid.period)}, column, n, first_input,
             inputs, sums);
    for (i64 i = 0; i < inputs; ++i) {
      for (i64 e = 0; e < columns; ++e)
        total[i * columns + e] += sums[i * width + place_of(w.type, lead + e)];
    }
  }
  for (i64 i = 0; i < inputs; ++i) {
    for (i64 e = 0; e < columns; ++e)
      store_as(job.call->out, job.call->type, (first_input + i) * w.k + column + e, total[i * columns + e]);
  }
}

void backward_task(void* context, i64 index) {
  const Linear4bitJob& job = *static_cast<const Linear4bitJob*>(context);
  const Grid grid(*job.weight);
  for (i64 first = 0; first < job.call->m; first += kBackwardBlock) {
    const i64 inputs = smaller(kBackwardBlock, job.call->m - first);
    backward_panel(job, grid, index * backward_columns(grid), first, inputs);
  }
}

void linear_4bit_backward(const Linear4bitCall& call, const Weight4bit& weight, int threads) {
  if (call.m == 0 || weight.k == 0) return;
  const i64 n = call.m * weight.n;
  float* factors = scratch_array<float>(Scratch::linear_input, n);
  for (i64 i = 0; i < n; ++i) factors[i] = widened(call.x, call.type, i);
  Linear4bitJob job{&call, &weight, factors, 0};
  parallel_for(ceil_div(weight.k, backward_columns(Grid(weight))), threads, backward_task, &job);
}

}  // namespace
