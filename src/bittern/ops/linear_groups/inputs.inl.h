// SPDX-License-Identifier: Apache-2.0

// Inputs as the kernels read them: a row of float32, or of codes in int8, behind the other, filled up with
// zeros to whole tiles of columns, and the sum of each group, by which zero points are multiplied.
// Included inside the namespace of one instruction set, after row_tile.inl.h.

namespace {

// Rows that lie a power of two apart would fall on the same few lines of the cache.
constexpr i64 kPitchMore = 16;

struct Inputs {
  const LinearGroupsCall* call;
  const WeightGroups* weight;
  i64 pitch;
  float* numbers;      // [m, pitch], or null
  std::int8_t* codes;  // [m, pitch], or null
  float* sums;         // [m, groups]
  float* steps;        // [m]: what one step of the codes is, NaN for a row that is not finite

  const float* group_sums(i64 input) const { return sums + input * weight->groups(); }
};

inline Inputs inputs_of(const LinearGroupsCall& call, const WeightGroups& weight, bool as_codes) {
  Inputs in{&call,   &weight, round_up(weight.k, kTileColumns) + kPitchMore, nullptr, nullptr,
            nullptr, nullptr};
  if (as_codes) {
    in.pitch += 3 * kPitchMore;
    in.codes = scratch_array<std::int8_t>(Scratch::linear_input, call.m * in.pitch);
  } else {
    in.numbers = scratch_array<float>(Scratch::linear_input, call.m * in.pitch);
  }
  in.sums = scratch_array<float>(Scratch::linear_groups, call.m * (weight.groups() + 1));
  in.steps = in.sums + call.m * weight.groups();
  return in;
}

template <class T>
inline void widen_row(const T* x, i64 n, float* out) {
  i64 e = 0;
  for (; e + kLanes <= n; e += kLanes) store(out + e, load(x + e));
  for (; e < n; ++e) out[e] = widen(x[e]);
}

// Row i of the inputs in float32, with zeros up to `length`.
inline void widen_input(const LinearGroupsCall& call, i64 k, i64 i, i64 length, float* out) {
  if (call.type == DType::f32) {
    widen_row(static_cast<const float*>(call.x) + i * k, k, out);
  } else if (call.type == DType::bf16) {
    widen_row(static_cast<const bf16*>(call.x) + i * k, k, out);
  } else {
    widen_row(static_cast<const f16*>(call.x) + i * k, k, out);
  }
  for (i64 e = k; e < length; ++e) out[e] = 0;
}

void widen_task(void* context, i64 i) {
  const Inputs& in = *static_cast<const Inputs*>(context);
  const WeightGroups& w = *in.weight;
  float* x = in.numbers + i * in.pitch;
  widen_input(*in.call, w.k, i, round_up(w.k, kTileColumns), x);
  if (w.zero == nullptr) return;
  for (i64 g = 0; g < w.groups(); ++g) {
    float sum = 0;
    for (i64 e = g * w.group; e < smaller(w.k, (g + 1) * w.group); ++e) sum += x[e];
    in.sums[i * w.groups() + g] = sum;
  }
}

void quantize_task(void* context, i64 i) {
  const Inputs& in = *static_cast<const Inputs*>(context);
  const WeightGroups& w = *in.weight;
  const i64 length = round_up(w.k, kTileColumns);
  float* x = scratch_array<float>(Scratch::linear_panel, length);
  std::int8_t* codes = in.codes + i * in.pitch;
  widen_input(*in.call, w.k, i, length, x);
  in.steps[i] = codes_of_row(x, length, codes).factor;
  for (i64 g = 0; g < w.groups(); ++g) {
    i32 sum = 0;
    for (i64 e = g * w.group; e < smaller(length, (g + 1) * w.group); ++e) sum += codes[e];
    in.sums[i * w.groups() + g] = static_cast<float>(sum);
  }
}

}  // namespace
