// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set, after its simd header, nibbles, chunk.inl.h,
// elements.inl.h and tile.inl.h.
//
// The sums run along k, over numbers and inputs in lane order (chunk.inl.h).

namespace {

constexpr i64 kPanel = 1024;     // elements of k that a panel of decoded weights holds per row
constexpr i64 kInputBlock = 48;  // inputs that share a decoded panel
constexpr i64 kLeastTaskRows = 32, kMostTaskRows = 256;

inline i64 padded(i64 k) {
  return round_up(k, kChunk);
}

// Between inputs: a power of two apart they would fall on the same few lines of the cache.
inline i64 input_pitch(i64 k) {
  return padded(k) + 16;
}

inline i64 place_of(DType type, i64 element) {
  const i64 in_chunk = element % kChunk;
  return element - in_chunk + lane_order(type).place[in_chunk];
}

// Room for the scales of `rows` stretches of n elements each, and for a vector more.
inline i64 scale_pitch(const Weight4bit& w, i64 n) {
  return n / w.block + 2 + kLanes;
}
inline float* scale_buffer(const Weight4bit& w, i64 rows, i64 n) {
  return scratch_array<float>(Scratch::linear_rows, rows * scale_pitch(w, n));
}

// Rows first, first + step, ... of a weight, all with the same lead.
struct RowSet {
  i64 first, step, count;
  i64 at(i64 i) const { return first + smaller(i, count - 1) * step; }
};

// n elements of x from element i on, as float32.
inline void widen_run(const void* x, DType type, i64 i, i64 n, float* out) {
  if (type == DType::f32) {
    std::memcpy(out, static_cast<const float*>(x) + i, static_cast<size_t>(n) * sizeof(float));
    return;
  }
  i64 e = 0;
  for (; e + kLanes <= n; e += kLanes) {
    store(out + e, type == DType::bf16 ? load(static_cast<const bf16*>(x) + i + e)
                                       : load(static_cast<const f16*>(x) + i + e));
  }
  for (; e < n; ++e) out[e] = widened(x, type, i + e);
}

// Input i in lane order, behind `lead` zeros and with zeros up to a whole chunk.
inline void order_input(const Linear4bitCall& call, i64 i, i64 k, i64 lead, float* out) {
  for (i64 start = 0; start < lead + k; start += kChunk) {
    alignas(64) float natural[kChunk];
    const i64 first = start == 0 ? lead : 0, end = smaller(kChunk, lead + k - start);
    if (end - first < kChunk) std::memset(natural, 0, sizeof natural);
    widen_run(call.x, call.type, i * k + start + first - lead, end - first, natural + first);
    order_chunk(call.type, natural, out + start);
  }
}

// Inputs [first, first + inputs) as order_input has them, input_pitch(lead + k) apart.
inline const float* order_inputs(const Linear4bitCall& call, i64 first, i64 inputs, i64 k, i64 lead) {
  const i64 pitch = input_pitch(lead + k);
  float* x = scratch_array<float>(Scratch::linear_input, inputs * pitch);
  for (i64 i = 0; i < inputs; ++i) order_input(call, first + i, k, lead, x + i * pitch);
  return x;
}

struct Linear4bitJob {
  const Linear4bitCall* call;
  const Weight4bit* weight;
  const float* x;  // inputs in order, where all rows have the lead 0; else each task puts its own in order
  i64 task_rows;   // a multiple of kRowTile
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

// Tasks take the rows of one lead each.
inline i64 tasks_of_lead(const Linear4bitJob& job, const Grid& grid) {
  return ceil_div(ceil_div(job.weight->n, grid.period), job.task_rows);
}
inline RowSet rows_of_task(const Linear4bitJob& job, const Grid& grid, i64 index) {
  const i64 per_lead = tasks_of_lead(job, grid), of_lead = index / per_lead;
  const i64 begin = index % per_lead * job.task_rows;
  const i64 rows = ceil_div(larger(0, job.weight->n - of_lead), grid.period);
  return {of_lead + begin * grid.period, grid.period, larger(0, smaller(job.task_rows, rows - begin))};
}

// ---- few inputs: decoded in registers, kFewRows rows at a time. They are parts of a task apart, so that
// each goes through memory without a gap.

// Sums of a row and an input that run side by side: a fused multiply-add takes several cycles. float32
// numbers are added up and then scaled, chunk by chunk.
template <int kInputs, DType kType>
constexpr int kSums = kFewRows * kInputs == 1 && kType != DType::f32 ? 4 : 1;
template <int kInputs, DType kType>
using FewSums = F32[kFewRows][kInputs][kSums<kInputs, kType>];

// sum += the products of a chunk of each row with the inputs at x.
template <int kInputs, DType kType>
BITTERN_INLINE void add_chunks(const Decoder<kType>& decoder,
                               const typename Decoder<kType>::Ready (&ready)[kFewRows], const float* x,
                               i64 pitch, FewSums<kInputs, kType>& sum) {
  constexpr bool kLate = kType == DType::f32, kApart = kSums<kInputs, kType> == 1;
  constexpr int kChains = kFewRows * kInputs == 1 ? 2 : 1;
  F32 part[kFewRows][kInputs][kChains];
  BITTERN_UNROLL
  for (int j = 0; j < 8; ++j) {
    BITTERN_UNROLL
    for (int r = 0; r < kFewRows; ++r) {
      const F32 value = kLate ? decoder.unscaled(ready[r], j) : decoder.number(ready[r], j);
      BITTERN_UNROLL
      for (int i = 0; i < kInputs; ++i) {
        const F32 input = load(x + i * pitch + j * kLanes);
        F32& to = kApart ? part[r][i][j % kChains] : sum[r][i][j % kSums<kInputs, kType>];
        to = kApart && j < kChains ? multiply(value, input) : multiply_add(value, input, to);
      }
    }
  }
  if (!kApart) return;
  BITTERN_UNROLL
  for (int r = 0; r < kFewRows; ++r) {
    BITTERN_UNROLL
    for (int i = 0; i < kInputs; ++i) {
      const F32 all = kChains == 2 ? add(part[r][i][0], part[r][i][kChains - 1]) : part[r][i][0];
      F32& to = sum[r][i][0];
      to = kLate ? multiply_add(all, ready[r].chunk.scales, to) : add(to, all);
    }
  }
}

// The same for the chunks at `start` of rows that share them with others.
template <int kInputs, DType kType>
inline void add_edges(const Decoder<kType>& decoder, const Grid& grid, const Row (&rows)[kFewRows], i64 start,
                      const float* x, i64 pitch, FewSums<kInputs, kType>& sum) {
  for (int r = 0; r < kFewRows; ++r) {
    const auto ready = decoder.ready(grid.load_any(rows[r], start));
    const Own own(kType, rows[r], start);
    BITTERN_UNROLL
    for (int j = 0; j < 8; ++j) {
      const F32 value = own(j, decoder.number(ready, j));
      BITTERN_UNROLL
      for (int i = 0; i < kInputs; ++i)
        sum[r][i][0] = multiply_add(value, load(x + i * pitch + j * kLanes), sum[r][i][0]);
    }
  }
}

template <DType kType>
BITTERN_INLINE void get_ready(const Decoder<kType>& decoder, const Grid& grid, const Row (&rows)[kFewRows],
                              i64 start, typename Decoder<kType>::Ready (&ready)[kFewRows]) {
  BITTERN_UNROLL
  for (int r = 0; r < kFewRows; ++r) ready[r] = decoder.ready(grid.load(rows[r], start));
}

// Rows t, t + step, ... of a set.
template <int kInputs, DType kType>
inline void multiply_few_rows(const Linear4bitJob& job, const Decoder<kType>& decoder, const Grid& grid,
                              const RowSet& set, const Row (&rows)[kFewRows], const float* x, i64 t,
                              i64 step) {
  const i64 end = grid.lead(set.first) + grid.weight.k, pitch = input_pitch(end);
  FewSums<kInputs, kType> sum;
  for (int r = 0; r < kFewRows; ++r) {
    BITTERN_UNROLL
    for (auto& of_input : sum[r]) {
      for (F32& one : of_input) one = splat(0.0f);
    }
  }
  i64 start = 0;
  if (end > 0 && !grid.whole(rows[0], 0)) {
    add_edges<kInputs>(decoder, grid, rows, 0, x, pitch, sum);
    start = kChunk;
  }
  typename Decoder<kType>::Ready now[kFewRows], next[kFewRows];
  const i64 last = end - kChunk;  // where a whole chunk may start
  if (start <= last) get_ready(decoder, grid, rows, start, next);
  for (; start <= last; start += kChunk) {
    BITTERN_UNROLL
    for (int r = 0; r < kFewRows; ++r) now[r] = next[r];
    get_ready(decoder, grid, rows, start + kChunk <= last ? start + kChunk : start, next);
    add_chunks<kInputs>(decoder, now, x + start, pitch, sum);
  }
  if (start < end) add_edges<kInputs>(decoder, grid, rows, start, x + start, pitch, sum);
  BITTERN_UNROLL
  for (int r = 0; r < kFewRows; ++r) {
    BITTERN_UNROLL
    for (int i = 0; i < kInputs; ++i) {
      F32 all = sum[r][i][0];
      for (int c = 1; c < kSums<kInputs, kType>; ++c) all = add(all, sum[r][i][c]);
      if (t + r * step < set.count) store_sum(job, i, set.at(t + r * step), sum_of_lanes(all));
    }
  }
}

template <int kInputs, DType kType>
inline void multiply_set(const Linear4bitJob& job, const Grid& grid, const RowSet& set, const float* x) {
  const i64 step = ceil_div(set.count, kFewRows), end = grid.lead(set.first) + grid.weight.k;
  const i64 pitch = scale_pitch(grid.weight, end);
  float* scales = scale_buffer(grid.weight, 2 * kFewRows, end);
  const Decoder<kType> decoder(grid.weight);
  // rows whose scales are there, and the next, whose scales are decoded before they are waited for
  Row rows[2][kFewRows];
  const auto prepare = [&](i64 t) {
    for (int r = 0; r < kFewRows; ++r)
      rows[t % 2][r] = grid.row(set.at(t + r * step), 0, end, scales + (t % 2 * kFewRows + r) * pitch);
  };
  prepare(0);
  for (i64 t = 0; t < step; ++t) {
    if (t + 1 < step) prepare(t + 1);
    multiply_few_rows<kInputs>(job, decoder, grid, set, rows[t % 2], x, t, step);
  }
}

// For as many inputs as there are, at most kInputs.
template <int kInputs>
inline void multiply_few(const Linear4bitJob& job, const Grid& grid, const RowSet& set, const float* x) {
  if constexpr (kInputs > 1) {
    if (job.call->m < kInputs) return multiply_few<kInputs - 1>(job, grid, set, x);
  }
  switch (grid.weight.type) {
    case DType::bf16:
      return multiply_set<kInputs, DType::bf16>(job, grid, set, x);
    case DType::f16:
      return multiply_set<kInputs, DType::f16>(job, grid, set, x);
    default:
      return multiply_set<kInputs, DType::f32>(job, grid, set, x);
  }
}

// ---- many inputs: four rows at a time, decoded into a panel

// Rows t to t + kRowTile of a set, with inputs from first_input on, which lie at x.
inline void multiply_rows(const Linear4bitJob& job, const Grid& grid, const RowSet& set, i64 t,
                          const float* x, i64 first_input, i64 inputs) {
  const i64 end = grid.lead(set.first) + grid.weight.k, pitch = input_pitch(end);
  float* panel = scratch_array<float>(Scratch::linear_panel, kRowTile * kPanel);
  float* scales = scale_buffer(grid.weight, 1, kPanel);
  alignas(64) F32 sums[kInputBlock * kRowTile];
  for (int i = 0; i < inputs * kRowTile; ++i) sums[i] = splat(0.0f);
  for (i64 start = 0; start < end; start += kPanel) {
    const i64 n = smaller(kPanel, end - start);
    for (int r = 0; r < kRowTile; ++r)
      decode(grid, grid.row(set.at(t + r), start, n, scales), start, n, panel + r * kPanel);
    dot_inputs<DotF32, kInputTileF32>(panel, kPanel, x + start, pitch, inputs, padded(n), sums);
  }
  for (i64 i = 0; i < inputs; ++i) {
    for (int r = 0; r < kRowTile && t + r < set.count; ++r)
      store_sum(job, first_input + i, set.at(t + r), sum_of_lanes(sums[i * kRowTile + r]));
  }
}

void forward_task(void* context, i64 index) {
  const Linear4bitJob& job = *static_cast<const Linear4bitJob*>(context);
  const Grid grid(*job.weight);
  const RowSet set = rows_of_task(job, grid, index);
  if (set.count == 0) return;
  const i64 k = job.weight->k, m = job.call->m, lead = grid.lead(set.first);
  const i64 block = m <= kFewInputs ? m : kInputBlock;
  for (i64 first = 0; first < m; first += block) {
    const i64 inputs = smaller(block, m - first);
    const float* x =
        job.x != nullptr ? job.x + first * input_pitch(k) : order_inputs(*job.call, first, inputs, k, lead);
    if (m <= kFewInputs) return multiply_few<kFewInputs>(job, grid, set, x);
    for (i64 t = 0; t < set.count; t += kRowTile) multiply_rows(job, grid, set, t, x, first, inputs);
  }
}

void linear_4bit(const Linear4bitCall& call, const Weight4bit& weight, int threads) {
  if (call.m == 0 || weight.n == 0) return;
  const Grid grid(weight);
  const float* x = grid.period == 1 ? order_inputs(call, 0, call.m, weight.k, 0) : nullptr;
  Linear4bitJob job{&call, &weight, x, task_rows(weight.n, threads)};
  parallel_for(grid.period * tasks_of_lead(job, grid), threads, forward_task, &job);
}

}  // namespace
