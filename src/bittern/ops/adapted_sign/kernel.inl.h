// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set, after sign_slopes/fourier.inl.h. Rows are taken in
// blocks that stay in the first-level cache: first the hidden numbers of each, which are sums along a row,
// then a column of vectors after another, so that what the columns share stays in registers.

namespace {

constexpr i64 kBlockRows = 64, kBlockNumbers = 4096;
constexpr i64 kTaskNumbers = i64{1} << 15;

inline i64 rows_of_block(i64 columns) {
  return larger(1, smaller(kBlockRows, kBlockNumbers / larger(1, columns)));
}

// Numbers `column` and following of a row, zeros behind its end; `whole`: rows end with a vector.
template <bool whole>
BITTERN_INLINE F32 part_of(const float* row, i64 column, i64 columns) {
  if (whole || column + kLanes <= columns) return load(row + column);
  float part[kLanes] = {};
  std::memcpy(part, row + column, static_cast<std::size_t>(columns - column) * sizeof(float));
  return load(part);
}

template <bool whole>
BITTERN_INLINE void put_part(float* row, i64 column, i64 columns, F32 x) {
  if (whole || column + kLanes <= columns) return store(row + column, x);
  float part[kLanes];
  store(part, x);
  std::memcpy(row + column, part, static_cast<std::size_t>(columns - column) * sizeof(float));
}

inline float sum_of(F32 x) {
  float lanes[kLanes];
  store(lanes, x);
  BITTERN_UNROLL
  for (i64 half = kLanes / 2; half > 0; half /= 2) {
    for (i64 k = 0; k < half; ++k) lanes[k] += lanes[k + half];
  }
  return lanes[0];
}

// x times `width` rows at b.
template <bool whole, int width>
BITTERN_INLINE void dots(const float* x, const float* b, i64 columns, float* out) {
  F32 sums[width];
  BITTERN_UNROLL
  for (int j = 0; j < width; ++j) sums[j] = splat(0.0f);
  for (i64 c = 0; c < columns; c += kLanes) {
    const F32 part = part_of<whole>(x, c, columns);
    BITTERN_UNROLL
    for (int j = 0; j < width; ++j) {
      sums[j] = multiply_add(part, part_of<whole>(b + j * columns, c, columns), sums[j]);
    }
  }
  BITTERN_UNROLL
  for (int j = 0; j < width; ++j) out[j] = sum_of(sums[j]);
}

// `count` rows at x times the `width` rows at b, into every `hidden` numbers of out.
template <bool whole, int width>
void dots_of_rows(const float* x, i64 count, const float* b, i64 columns, i64 hidden, float* out) {
  for (i64 i = 0; i < count; ++i) dots<whole, width>(x + i * columns, b, columns, out + i * hidden);
}

// [count, columns] times [hidden, columns]^T.
template <bool whole>
void products(const float* x, i64 count, const float* b, i64 columns, i64 hidden, float* out) {
  i64 j = 0;
  for (; j + 4 <= hidden; j += 4) dots_of_rows<whole, 4>(x, count, b + j * columns, columns, hidden, out + j);
  for (; j < hidden; ++j) dots_of_rows<whole, 1>(x, count, b + j * columns, columns, hidden, out + j);
}

// max(0, x) that keeps NaN.
inline float rectified(float x) {
  return x <= 0.0f ? 0.0f : x;
}

// ---- forward

struct AdaptedJob {
  const AdaptedRows* rows;
  float* out;
  i64 task_rows;
};

// width: hidden numbers where there is but one, else 0.
template <bool whole, int width>
void adapted_block(const AdaptedRows& r, i64 first, i64 count, float* out) {
  const i64 columns = r.columns, hidden = width == 0 ? r.hidden : width;
  const float* rows = r.x + first * columns;
  float numbers[kBlockRows * kMostHidden];
  products<whole>(rows, count, r.down, columns, hidden, numbers);
  for (i64 i = 0; i < count * hidden; ++i) numbers[i] = rectified(numbers[i]);
  for (i64 c = 0; c < columns; c += kLanes) {
    const F32 up = part_of<whole>(r.turned, c, columns);
    for (i64 i = 0; i < count; ++i) {
      F32 noise = multiply(splat(numbers[i * hidden]), up);
      for (i64 j = 1; j < hidden; ++j) {
        noise = multiply_add(splat(numbers[i * hidden + j]),
                             part_of<whole>(r.turned + j * columns, c, columns), noise);
      }
      const F32 x = part_of<whole>(rows + i * columns, c, columns);
      const F32 result = sign_with(x, add(noise, multiply(splat(r.wave), sine(x))));
      put_part<whole>(out + (first + i) * columns, c, columns, result);
    }
  }
}

void adapted_task(void* context, i64 index) {
  const auto& job = *static_cast<const AdaptedJob*>(context);
  const i64 first = index * job.task_rows, end = smaller(first + job.task_rows, job.rows->rows);
  const i64 columns = job.rows->columns, step = rows_of_block(columns);
  const bool one = job.rows->hidden == 1;
  const auto block = columns % kLanes != 0 ? adapted_block<false, 0>
                     : one                 ? adapted_block<true, 1>
                                           : adapted_block<true, 0>;
  for (i64 row = first; row < end; row += step) block(*job.rows, row, smaller(step, end - row), job.out);
}

// `turned` of the rows: up, the other way round and times alpha.
void turn(const AdaptedRows& r) {
  for (i64 c = 0; c < r.columns; ++c) {
    for (i64 j = 0; j < r.hidden; ++j) r.turned[j * r.columns + c] = r.alpha * r.up[c * r.hidden + j];
  }
}

void adapted_sign(const AdaptedRows& rows, float* out, int threads) {
  turn(rows);
  AdaptedJob job{&rows, out, larger(1, kTaskNumbers / larger(1, rows.columns))};
  parallel_for(ceil_div(rows.rows, job.task_rows), threads, adapted_task, &job);
}

// ---- backward

struct GradientJob {
  const AdaptedRows* rows;
  const AdaptedGradient* gradient;
  FourierRule rule;
  i64 part_rows;
};

// Hidden numbers of a block, and the gradients that reach them.
struct Hidden {
  float numbers[kBlockRows * kMostHidden], grads[kBlockRows * kMostHidden];
};

template <bool whole>
void hidden_of_block(const AdaptedRows& r, const float* grad, i64 first, i64 count, Hidden& out) {
  const i64 columns = r.columns, hidden = r.hidden;
  products<whole>(r.x + first * columns, count, r.down, columns, hidden, out.numbers);
  products<whole>(grad + first * columns, count, r.turned, columns, hidden, out.grads);
  for (i64 i = 0; i < count * hidden; ++i) {
    out.grads[i] = out.numbers[i] <= 0.0f ? 0.0f : out.grads[i];
    out.numbers[i] = rectified(out.numbers[i]);
  }
}

// A block of rows, what is shared by them, and where its sums are added.
struct Block {
  const AdaptedRows& rows;
  const AdaptedGradient& gradient;
  const FourierRule& rule;
  const Hidden& hidden;
  i64 first, count;
  float* sums;
};

// What `width` hidden numbers, from `from` on, give to the gradients of a column of vectors; the first of
// them brings the gradient through the sign and the wave.
template <bool whole, int width>
void gradient_of_column(const Block& b, i64 c, i64 from) {
  const AdaptedRows& r = b.rows;
  const i64 columns = r.columns, hidden = r.hidden;
  F32 down[width], to_down[width], to_up[width];
  float *sums_down = b.sums + from * columns, *sums_up = sums_down + hidden * columns;
  BITTERN_UNROLL
  for (int j = 0; j < width; ++j) {
    down[j] = part_of<whole>(r.down + (from + j) * columns, c, columns);
    to_down[j] = part_of<whole>(sums_down + j * columns, c, columns);
    to_up[j] = part_of<whole>(sums_up + j * columns, c, columns);
  }
  const float *numbers = b.hidden.numbers + from, *grads = b.hidden.grads + from;
  for (i64 i = 0; i < b.count; ++i, numbers += hidden, grads += hidden) {
    const i64 place = (b.first + i) * columns;
    const F32 x = part_of<whole>(r.x + place, c, columns);
    const F32 grad = part_of<whole>(b.gradient.grad + place, c, columns);
    F32 to_x = from == 0 ? b.rule.apply(grad, x) : part_of<whole>(b.gradient.to_x + place, c, columns);
    BITTERN_UNROLL
    for (int j = 0; j < width; ++j) {
      to_x = multiply_add(splat(grads[j]), down[j], to_x);
      to_down[j] = multiply_add(splat(grads[j]), x, to_down[j]);
      to_up[j] = multiply_add(splat(numbers[j]), grad, to_up[j]);
    }
    put_part<whole>(b.gradient.to_x + place, c, columns, to_x);
  }
  BITTERN_UNROLL
  for (int j = 0; j < width; ++j) {
    put_part<whole>(sums_down + j * columns, c, columns, to_down[j]);
    put_part<whole>(sums_up + j * columns, c, columns, to_up[j]);
  }
}

template <bool whole>
void gradient_of_block(const Block& b) {
  for (i64 c = 0; c < b.rows.columns; c += kLanes) {
    i64 j = 0;
    for (; j + 2 <= b.rows.hidden; j += 2) gradient_of_column<whole, 2>(b, c, j);
    if (j < b.rows.hidden) gradient_of_column<whole, 1>(b, c, j);
  }
}

void gradient_task(void* context, i64 index) {
  const auto& job = *static_cast<const GradientJob*>(context);
  const AdaptedRows& r = *job.rows;
  const AdaptedGradient& g = *job.gradient;
  const i64 first = index * job.part_rows, end = smaller(first + job.part_rows, r.rows);
  const bool whole = r.columns % kLanes == 0;
  float* sums = g.sums + index * 2 * r.hidden * r.columns;
  for (i64 i = 0; i < 2 * r.hidden * r.columns; ++i) sums[i] = 0.0f;
  const i64 step = rows_of_block(r.columns);
  Hidden hidden;
  for (i64 row = first; row < end; row += step) {
    const Block block{r, g, job.rule, hidden, row, smaller(step, end - row), sums};
    (whole ? hidden_of_block<true> : hidden_of_block<false>)(r, g.grad, row, block.count, hidden);
    (whole ? gradient_of_block<true> : gradient_of_block<false>)(block);
  }
}

void adapted_gradient(const AdaptedRows& rows, const AdaptedGradient& g, int threads) {
  turn(rows);
  const i64 columns = rows.columns, numbers = rows.hidden * columns;
  GradientJob job{&rows, &g, FourierRule(g.slope), ceil_div(rows.rows, larger(1, g.parts))};
  parallel_for(g.parts, threads, gradient_task, &job);
  for (i64 i = 0; i < numbers; ++i) {
    float down = 0.0f, up = 0.0f;
    for (i64 part = 0; part < g.parts; ++part) {
      down += g.sums[2 * part * numbers + i];
      up += g.sums[(2 * part + 1) * numbers + i];
    }
    g.to_down[i] = down;
    g.to_up[i % columns * rows.hidden + i / columns] = rows.alpha * up;
  }
}

}  // namespace

const AdaptedSignKernels adapted_sign_kernels = {adapted_sign, adapted_gradient};
