// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set, after its simd header, row_codes.inl.h, its dot file
// and tile.inl.h.

namespace {

constexpr i64 kInputBlock = 48;  // inputs that share four rows of the weight
constexpr i64 kTaskRows = 32;
// That a single input is multiplied with: so many streams from memory keep it busy.
constexpr int kRowsAlone = 8;

inline i64 padded(i64 k) {
  return round_up(k, 64);
}

struct Linear8bitJob {
  const Linear8bitCall* call;
  std::int8_t* codes;  // [m, padded(k)]
  InputRow* rows;      // [m]
};

// Row i of the input in codes, with zeros up to n; x: room for as many floats.
inline InputRow quantized_row(const Linear8bitCall& call, i64 i, i64 n, float* x, std::int8_t* codes) {
  for (i64 e = 0; e < call.k; ++e) x[e] = widened(call.x, call.type, i * call.k + e);
  for (i64 e = call.k; e < n; ++e) x[e] = 0;
  return codes_of_row(x, n, codes);
}

void quantize_task(void* context, i64 i) {
  const Linear8bitJob& job = *static_cast<const Linear8bitJob*>(context);
  const i64 pitch = padded(job.call->k);
  float* x = scratch_array<float>(Scratch::linear_panel, pitch);
  job.rows[i] = quantized_row(*job.call, i, pitch, x, job.codes + i * pitch);
}

inline void store_product(const Linear8bitCall& call, const InputRow& input, i64 i, i64 row, i32 exact) {
  const i64 at = i * call.n + row;
  float y = static_cast<float>(exact) * input.factor * (call.scale[row] * (1.0f / kLevels));
  if (call.extra != nullptr) y += call.extra[at];
  if (call.bias != nullptr) y += widened(call.bias, call.type, row);
  store_as(call.out, call.type, at, y);
}

// kRows rows from `row` on; more than kRowTile with one input only.
template <int kRows>
inline void multiply_rows(const Linear8bitJob& job, i64 row, i64 first_input, i64 inputs) {
  const Linear8bitCall& call = *job.call;
  const i64 rows = smaller(kRows, call.n - row), pitch = padded(call.k);
  const std::int8_t* weight = call.weight + row * call.k;
  i64 weight_pitch = call.k;
  if (rows < kRows || pitch != call.k) {
    std::int8_t* panel = scratch_array<std::int8_t>(Scratch::linear_panel, kRows * pitch);
    std::memset(panel, 0, static_cast<size_t>(kRows * pitch));
    for (i64 r = 0; r < rows; ++r)
      std::memcpy(panel + r * pitch, weight + r * call.k, static_cast<size_t>(call.k));
    weight = panel;
    weight_pitch = pitch;
  }
  DotI8::Sum sums[kInputBlock * kRowTile];
  for (int i = 0; i < inputs * kRows; ++i) sums[i] = DotI8::zero();
  const std::int8_t* codes = job.codes + first_input * pitch;
  if constexpr (kRows == kRowTile) {
    dot_inputs<DotI8>(weight, weight_pitch, codes, pitch, inputs, pitch, sums);
  } else {
    dot_tile<DotI8, 1, kRows>(weight, weight_pitch, codes, pitch, pitch, sums);
  }
  for (i64 i = 0; i < inputs; ++i) {
    const InputRow& input = job.rows[first_input + i];
    for (i64 r = 0; r < rows; ++r) {
      const u32 total = static_cast<u32>(DotI8::total(sums[i * kRows + r]));
      const u32 shift = static_cast<u32>(DotI8::kShift) * static_cast<u32>(input.sum);
      store_product(call, input, first_input + i, row + r, static_cast<i32>(total - shift));
    }
  }
}

void forward_task(void* context, i64 index) {
  const Linear8bitJob& job = *static_cast<const Linear8bitJob*>(context);
  const i64 begin = index * kTaskRows, end = smaller(job.call->n, begin + kTaskRows), inputs = job.call->m;
  if (inputs == 1) {
    for (i64 row = begin; row < end; row += kRowsAlone) multiply_rows<kRowsAlone>(job, row, 0, 1);
    return;
  }
  for (i64 first = 0; first < inputs; first += kInputBlock) {
    for (i64 row = begin; row < end; row += kRowTile)
      multiply_rows<kRowTile>(job, row, first, smaller(kInputBlock, inputs - first));
  }
}

void linear_8bit(const Linear8bitCall& call, int threads) {
  if (call.m == 0 || call.n == 0) return;
  Linear8bitJob job{&call, scratch_array<std::int8_t>(Scratch::linear_input, call.m * padded(call.k)),
                    scratch_array<InputRow>(Scratch::linear_sums, call.m)};
  parallel_for(call.m, threads, quantize_task, &job);
  parallel_for(ceil_div(call.n, kTaskRows), threads, forward_task, &job);
}

}  // namespace
