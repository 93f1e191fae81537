// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set, after its simd header, nibbles, chunk.inl.h,
// ragged.inl.h and tile.inl.h.
//
// The sums run along k, over numbers and inputs in lane order (chunk.inl.h).

namespace {

constexpr i64 kPanel = 1024;     // elements of k that a panel of decoded weights holds per row
constexpr i64 kInputBlock = 48;  // inputs that share a decoded panel
constexpr i64 kLeastTaskRows = 32, kMostTaskRows = 256;
constexpr i64 kBackwardPanel = 512, kBackwardRows = 16, kBackwardInputs = 4, kBackwardBlock = 32;
constexpr int kVectorTile = kRegisters == 32 ? 4 : 2;

inline i64 padded(i64 k) {
  return round_up(k, kChunk);
}

// Between inputs: a power of two apart they would fall on the same few lines of the cache.
inline i64 input_pitch(i64 k) {
  return padded(k) + 16;
}

inline i64 place_of(i64 element) {
  const i64 in_chunk = element % kChunk;
  return element - in_chunk + kLaneOrder.place[in_chunk];
}

// Rounds to a type and widens again.
inline F32 rounded_to(DType type, F32 x) {
  return type == DType::bf16 ? through_bf16(x) : type == DType::f16 ? through_f16(x) : x;
}

inline void round_to(DType type, float* x, i64 n) {
  if (type == DType::f32) return;
  for (i64 i = 0; i < n; i += kLanes) store(x + i, rounded_to(type, load(x + i)));
}

// Rows whose blocks start anew: whole words, one absmax per block.
inline bool regular(const Weight4bit& w) {
  return w.k % w.block == 0;
}

// Elements [start, start + n) of a row in lane order; start is a multiple of kChunk, n is rounded up to one
// and filled with zeros.
inline void decode_row(const Weight4bit& w, i64 row, i64 start, i64 n, float* out) {
  if (regular(w)) {
    decode_chunks(w, row, start, n, out);
  } else {
    decode_ragged(w, row, start, n, out);
  }
  round_to(w.type, out, padded(n));
}

// [m, input_pitch(k)] float32 in lane order.
inline const float* inputs_in_order(const Linear4bitCall& call, i64 k) {
  const i64 pitch = input_pitch(k);
  float* x = scratch_array<float>(Scratch::linear_input, call.m * pitch);
  std::memset(x, 0, static_cast<size_t>(call.m * pitch) * sizeof(float));
  for (i64 i = 0; i < call.m; ++i) {
    for (i64 e = 0; e < k; ++e) x[i * pitch + place_of(e)] = widened(call.x, call.type, i * k + e);
  }
  return x;
}

struct Linear4bitJob {
  const Linear4bitCall* call;
  const Weight4bit* weight;
  const float* x;
  i64 task_rows;  // a multiple of kRowTile
};

// Long tasks read memory in long stretches; each thread should get a few.
inline i64 task_rows(i64 n, int threads) {
  return round_up(larger(kLeastTaskRows, smaller(kMostTaskRows, n / (4 * threads))), kRowTile);
}

inline void store_sum(const Linear4bitJob& job, i64 input, i64 row, float sum) {
  const Linear4bitCall& call = *job.call;
  if (call.bias != nullptr) sum += widened(call.bias, call.type, row);
  store_as(call.out, call.type, input * job.weight->n + row, sum);
}

// ---- few inputs: decoded in registers, kFewRows rows at a time. They are parts of a task apart, so that
// each goes through memory without a gap.

// Chunks of any row, as those of WordChunks.
struct RaggedChunks {
  explicit RaggedChunks(const Weight4bit& w) : weight(w) {}
  i64 row(const Weight4bit&, i64 row) const { return row; }
  RaggedChunk load(i64 row, i64 start) const { return load_ragged(weight, row, start); }
  F32 scales(const RaggedChunk& chunk, int j) const { return chunk.scales(j); }
  const Weight4bit& weight;
};

// Whether tables are scaled and rounded, instead of the numbers that are looked up in them.
template <DType kType, class Chunks>
constexpr bool kRounded = kScalesTables && kType == DType::bf16 && std::is_same<Chunks, WordChunks>::value;

template <DType kType, class Chunks, class AnyChunk>
BITTERN_INLINE auto table_for(const AnyChunk& chunk, const Table16& table, const float* values) {
  if constexpr (kRounded<kType, Chunks>) {
    return scaled_table(values, chunk.scales);
  } else {
    return table;
  }
}

// sum += the products of a chunk of each row with the inputs at x.
template <int kInputs, DType kType, class Chunks, class AnyTable, class AnyChunk>
BITTERN_INLINE void add_chunks(const AnyTable (&tables)[kFewRows], const Chunks& chunks,
                               const AnyChunk (&chunk)[kFewRows], const float* x, i64 pitch,
                               F32 (&sum)[kFewRows][kInputs]) {
  // float32 numbers of whole words are scaled together, after their sum
  constexpr bool kLate = kType == DType::f32 && std::is_same<Chunks, WordChunks>::value;
  // two sums of a row side by side where there is no other: a fused multiply-add takes several cycles
  constexpr int kChains = kFewRows * kInputs == 1 ? 2 : 1;
  F32 part[kFewRows][kInputs][kChains];
  BITTERN_UNROLL
  for (int j = 0; j < 8; ++j) {
    BITTERN_UNROLL
    for (int r = 0; r < kFewRows; ++r) {
      F32 value = numbers(tables[r], chunk[r].codes, j);
      if (!kLate && !kRounded<kType, Chunks>)
        value = rounded_to(kType, multiply(value, chunks.scales(chunk[r], j)));
      BITTERN_UNROLL
      for (int i = 0; i < kInputs; ++i) {
        const F32 input = load(x + i * pitch + j * kLanes);
        F32& to = part[r][i][j % kChains];
        to = j < kChains ? multiply(value, input) : multiply_add(value, input, to);
      }
    }
  }
  BITTERN_UNROLL
  for (int r = 0; r < kFewRows; ++r) {
    const F32 scale = kLate ? chunks.scales(chunk[r], 0) : splat(1.0f);
    BITTERN_UNROLL
    for (int i = 0; i < kInputs; ++i) {
      const F32 all = kChains == 2 ? add(part[r][i][0], part[r][i][kChains - 1]) : part[r][i][0];
      sum[r][i] = multiply_add(all, scale, sum[r][i]);
    }
  }
}

// Rows row, row + step, ... before `end`.
template <int kInputs, DType kType, class Chunks>
inline void multiply_few_rows(const Linear4bitJob& job, i64 row, i64 step, i64 end) {
  const Weight4bit& w = *job.weight;
  const Table16 table = load_table(w.table.values);
  const Chunks chunks(w);
  decltype(chunks.row(w, row)) rows[kFewRows];
  F32 sum[kFewRows][kInputs];
  BITTERN_UNROLL
  for (int r = 0; r < kFewRows; ++r) {
    rows[r] = chunks.row(w, smaller(row + r * step, end - 1));
    BITTERN_UNROLL
    for (int i = 0; i < kInputs; ++i) sum[r][i] = splat(0.0f);
  }
  for (i64 start = 0; start < w.k; start += kChunk) {
    decltype(chunks.load(rows[0], start)) chunk[kFewRows];
    decltype(table_for<kType, Chunks>(chunk[0], table, w.table.values)) tables[kFewRows];
    BITTERN_UNROLL
    for (int r = 0; r < kFewRows; ++r) {
      chunk[r] = chunks.load(rows[r], start);
      tables[r] = table_for<kType, Chunks>(chunk[r], table, w.table.values);
    }
    add_chunks<kInputs, kType>(tables, chunks, chunk, job.x + start, input_pitch(w.k), sum);
  }
  BITTERN_UNROLL
  for (int r = 0; r < kFewRows; ++r) {
    BITTERN_UNROLL
    for (int i = 0; i < kInputs; ++i) {
      if (row + r * step < end) store_sum(job, i, row + r * step, sum_of_lanes(sum[r][i]));
    }
  }
}

template <int kInputs, class Chunks>
inline void multiply_rows_by(const Linear4bitJob& job, i64 row, i64 step, i64 end) {
  switch (job.weight->type) {
    case DType::bf16:
      return multiply_few_rows<kInputs, DType::bf16, Chunks>(job, row, step, end);
    case DType::f16:
      return multiply_few_rows<kInputs, DType::f16, Chunks>(job, row, step, end);
    default:
      return multiply_few_rows<kInputs, DType::f32, Chunks>(job, row, step, end);
  }
}

// Rows [first, end) of a task.
template <int kInputs, class Chunks>
inline void multiply_task_by(const Linear4bitJob& job, i64 first, i64 end) {
  const i64 step = ceil_div(end - first, kFewRows);
  for (i64 row = first; row < first + step; ++row) multiply_rows_by<kInputs, Chunks>(job, row, step, end);
}

// For as many inputs as there are, at most kInputs.
template <int kInputs>
inline void multiply_task(const Linear4bitJob& job, i64 first, i64 end) {
  if constexpr (kInputs > 1) {
    if (job.call->m < kInputs) return multiply_task<kInputs - 1>(job, first, end);
  }
  if (regular(*job.weight)) {
    multiply_task_by<kInputs, WordChunks>(job, first, end);
  } else {
    multiply_task_by<kInputs, RaggedChunks>(job, first, end);
  }
}

// ---- many inputs: four rows at a time, decoded into a panel

inline void multiply_rows(const Linear4bitJob& job, i64 row, i64 first_input, i64 inputs) {
  const Weight4bit& w = *job.weight;
  const i64 pitch = input_pitch(w.k);
  float* panel = scratch_array<float>(Scratch::linear_panel, kRowTile * kPanel);
  alignas(64) F32 sums[kInputBlock * kRowTile];
  for (int i = 0; i < inputs * kRowTile; ++i) sums[i] = splat(0.0f);
  for (i64 start = 0; start < w.k; start += kPanel) {
    const i64 n = smaller(kPanel, w.k - start);
    for (int r = 0; r < kRowTile; ++r) decode_row(w, smaller(row + r, w.n - 1), start, n, panel + r * kPanel);
    dot_inputs<DotF32, kInputTileF32>(panel, kPanel, job.x + first_input * pitch + start, pitch, inputs,
                                      padded(n), sums);
  }
  for (i64 i = 0; i < inputs; ++i) {
    for (int r = 0; r < kRowTile && row + r < w.n; ++r)
      store_sum(job, first_input + i, row + r, sum_of_lanes(sums[i * kRowTile + r]));
  }
}

void forward_task(void* context, i64 index) {
  const Linear4bitJob& job = *static_cast<const Linear4bitJob*>(context);
  const Weight4bit& w = *job.weight;
  const i64 end = smaller(w.n, (index + 1) * job.task_rows), inputs = job.call->m;
  const i64 first_row = index * job.task_rows;
  if (inputs <= kFewInputs) return multiply_task<kFewInputs>(job, first_row, end);
  for (i64 first = 0; first < inputs; first += kInputBlock) {
    for (i64 row = first_row; row < end; row += kRowTile)
      multiply_rows(job, row, first, smaller(kInputBlock, inputs - first));
  }
}

void linear_4bit(const Linear4bitCall& call, const Weight4bit& weight, int threads) {
  if (call.m == 0 || weight.n == 0) return;
  Linear4bitJob job{&call, &weight, inputs_in_order(call, weight.k), task_rows(weight.n, threads)};
  parallel_for(ceil_div(weight.n, job.task_rows), threads, forward_task, &job);
}

// ---- backward: the numbers of a panel along the lanes, one factor per row and input

template <int kInputs>
inline void add_rows(const float* panel, const float* factors, i64 factor_pitch, i64 rows, i64 length,
                     float* sums) {
  for (i64 at = 0; at < length; at += kVectorTile * kLanes) {
    F32 sum[kInputs][kVectorTile];
    BITTERN_UNROLL
    for (int i = 0; i < kInputs; ++i) {
      BITTERN_UNROLL
      for (int v = 0; v < kVectorTile; ++v) sum[i][v] = load(sums + i * kBackwardPanel + at + v * kLanes);
    }
    for (i64 r = 0; r < rows; ++r) {
      F32 value[kVectorTile];
      BITTERN_UNROLL
      for (int v = 0; v < kVectorTile; ++v) value[v] = load(panel + r * kBackwardPanel + at + v * kLanes);
      BITTERN_UNROLL
      for (int i = 0; i < kInputs; ++i) {
        const F32 factor = splat(factors[i * factor_pitch + r]);
        BITTERN_UNROLL
        for (int v = 0; v < kVectorTile; ++v) sum[i][v] = multiply_add(value[v], factor, sum[i][v]);
      }
    }
    BITTERN_UNROLL
    for (int i = 0; i < kInputs; ++i) {
      BITTERN_UNROLL
      for (int v = 0; v < kVectorTile; ++v) store(sums + i * kBackwardPanel + at + v * kLanes, sum[i][v]);
    }
  }
}

inline void add_rows_to(i64 inputs, const float* panel, const float* factors, i64 pitch, i64 rows, i64 length,
                        float* sums) {
  i64 i = 0;
  for (; i + kBackwardInputs <= inputs; i += kBackwardInputs)
    add_rows<kBackwardInputs>(panel, factors + i * pitch, pitch, rows, length, sums + i * kBackwardPanel);
  for (; i < inputs; ++i)
    add_rows<1>(panel, factors + i * pitch, pitch, rows, length, sums + i * kBackwardPanel);
}

inline void backward_panel(const Linear4bitJob& job, i64 start, i64 first_input, i64 inputs) {
  const Weight4bit& w = *job.weight;
  const i64 n = smaller(kBackwardPanel, w.k - start);
  float* panel = scratch_array<float>(Scratch::linear_panel, kBackwardRows * kBackwardPanel);
  float* sums = scratch_array<float>(Scratch::linear_sums, inputs * kBackwardPanel);
  std::memset(sums, 0, static_cast<size_t>(inputs * kBackwardPanel) * sizeof(float));
  for (i64 row = 0; row < w.n; row += kBackwardRows) {
    const i64 rows = smaller(kBackwardRows, w.n - row);
    for (i64 r = 0; r < rows; ++r) decode_row(w, row + r, start, n, panel + r * kBackwardPanel);
    add_rows_to(inputs, panel, job.x + first_input * w.n + row, w.n, rows, padded(n), sums);
  }
  for (i64 i = 0; i < inputs; ++i) {
    for (i64 e = 0; e < n; ++e) {
      const i64 at = (first_input + i) * w.k + start + e;
      store_as(job.call->out, job.call->type, at, sums[i * kBackwardPanel + place_of(e)]);
    }
  }
}

void backward_task(void* context, i64 index) {
  const Linear4bitJob& job = *static_cast<const Linear4bitJob*>(context);
  for (i64 first = 0; first < job.call->m; first += kBackwardBlock)
    backward_panel(job, index * kBackwardPanel, first, smaller(kBackwardBlock, job.call->m - first));
}

void linear_4bit_backward(const Linear4bitCall& call, const Weight4bit& weight, int threads) {
  if (call.m == 0 || weight.k == 0) return;
  const i64 n = call.m * weight.n;
  float* factors = scratch_array<float>(Scratch::linear_input, n);
  for (i64 i = 0; i < n; ++i) factors[i] = widened(call.x, call.type, i);
  Linear4bitJob job{&call, &weight, factors, 0};
  parallel_for(ceil_div(weight.k, kBackwardPanel), threads, backward_task, &job);
}

}  // namespace
