// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set, after its simd header, row_codes.inl.h, its dot file
// and tile.inl.h.

namespace {

constexpr i64 kInputBlock = 48;  // inputs that share four rows of the weight
constexpr i64 kTaskRows = 32;

inline i64 padded(i64 k) {
  return round_up(k, 64);
}

struct Linear8bitJob {
  const Linear8bitCall* call;
  std::int8_t* codes;  // [m, padded(k)]
  InputRow* rows;      // [m]
};

void quantize_task(void* context, i64 i) {
  const Linear8bitJob& job = *static_cast<const Linear8bitJob*>(context);
  const Linear8bitCall& call = *job.call;
  const i64 pitch = padded(call.k);
  float* x = scratch_array<float>(Scratch::linear_panel, pitch);
  for (i64 e = 0; e < call.k; ++e) x[e] = widened(call.x, call.type, i * call.k + e);
  for (i64 e = call.k; e < pitch; ++e) x[e] = 0;
  job.rows[i] = codes_of_row(x, pitch, job.codes + i * pitch);
}

inline void multiply_rows(const Linear8bitJob& job, i64 row, i64 first_input, i64 inputs) {
  const Linear8bitCall& call = *job.call;
  const i64 rows = smaller(kRowTile, call.n - row), pitch = padded(call.k);
  const std::int8_t* weight = call.weight + row * call.k;
  i64 weight_pitch = call.k;
  if (rows < kRowTile || pitch != call.k) {
    std::int8_t* panel = scratch_array<std::int8_t>(Scratch::linear_panel, kRowTile * pitch);
    std::memset(panel, 0, static_cast<size_t>(kRowTile * pitch));
    for (i64 r = 0; r < rows; ++r)
      std::memcpy(panel + r * pitch, weight + r * call.k, static_cast<size_t>(call.k));
    weight = panel;
    weight_pitch = pitch;
  }
  DotI8::Sum sums[kInputBlock * kRowTile];
  for (int i = 0; i < inputs * kRowTile; ++i) sums[i] = DotI8::zero();
  dot_inputs<DotI8>(weight, weight_pitch, job.codes + first_input * pitch, pitch, inputs, pitch, sums);
  for (i64 i = 0; i < inputs; ++i) {
    const InputRow& input = job.rows[first_input + i];
    for (i64 r = 0; r < rows; ++r) {
      const u32 total = static_cast<u32>(DotI8::total(sums[i * kRowTile + r]));
      const i32 exact =
          static_cast<i32>(total - static_cast<u32>(DotI8::kShift) * static_cast<u32>(input.sum));
      const i64 at = (first_input + i) * call.n + row + r;
      float y = static_cast<float>(exact) * input.factor * (call.scale[row + r] * (1.0f / kLevels));
      if (call.extra != nullptr) y += call.extra[at];
      if (call.bias != nullptr) y += widened(call.bias, call.type, row + r);
      store_as(call.out, call.type, at, y);
    }
  }
}

void forward_task(void* context, i64 index) {
  const Linear8bitJob& job = *static_cast<const Linear8bitJob*>(context);
  const i64 end = smaller(job.call->n, (index + 1) * kTaskRows), inputs = job.call->m;
  for (i64 first = 0; first < inputs; first += kInputBlock) {
    for (i64 row = index * kTaskRows; row < end; row += kRowTile)
      multiply_rows(job, row, first, smaller(kInputBlock, inputs - first));
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

const Linear8bitKernels linear_8bit_kernels = {linear_8bit};
