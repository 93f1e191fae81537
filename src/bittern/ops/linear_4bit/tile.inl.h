// SPDX-License-Identifier: Apache-2.0

// Dot products of a few rows of a weight with a few inputs, all along the lanes of vectors.
// Included inside the namespace of one instruction set, after its simd header.

namespace {

constexpr int kRowTile = 4;
// Sums, weights and one input together fill the registers. Weights that are multiplied as they lie in memory
// leave one of sixteen registers more.
constexpr int kInputTile = kRegisters == 32 ? 6 : 2;
constexpr int kInputTileF32 = kRegisters == 32 ? 6 : 3;

// float32: kLanes products per step.
struct DotF32 {
  using In = float;
  using Sum = F32;
  static constexpr i64 kStep = kLanes;
  static inline F32 load_in(const float* p) { return load(p); }
  static inline Sum step(Sum sum, F32 w, F32 x) { return multiply_add(w, x, sum); }
};

// sums[i][r] += w[r] . x[i] over `length` elements, a multiple of Dot::kStep.
template <class Dot, int kInputs, int kRows = kRowTile>
inline void dot_tile(const typename Dot::In* w, i64 w_pitch, const typename Dot::In* x, i64 x_pitch,
                     i64 length, typename Dot::Sum* sums) {
  typename Dot::Sum sum[kInputs][kRows];
  BITTERN_UNROLL
  for (int i = 0; i < kInputs; ++i) {
    BITTERN_UNROLL
    for (int r = 0; r < kRows; ++r) sum[i][r] = sums[i * kRows + r];
  }
  for (i64 at = 0; at < length; at += Dot::kStep) {
    decltype(Dot::load_in(w)) row[kRows];
    BITTERN_UNROLL
    for (int r = 0; r < kRows; ++r) row[r] = Dot::load_in(w + r * w_pitch + at);
    BITTERN_UNROLL
    for (int i = 0; i < kInputs; ++i) {
      const auto input = Dot::load_in(x + i * x_pitch + at);
      BITTERN_UNROLL
      for (int r = 0; r < kRows; ++r) sum[i][r] = Dot::step(sum[i][r], row[r], input);
    }
  }
  BITTERN_UNROLL
  for (int i = 0; i < kInputs; ++i) {
    BITTERN_UNROLL
    for (int r = 0; r < kRows; ++r) sums[i * kRows + r] = sum[i][r];
  }
}

// The same for any number of inputs.
template <class Dot, int kTile = kInputTile>
inline void dot_inputs(const typename Dot::In* w, i64 w_pitch, const typename Dot::In* x, i64 x_pitch,
                       i64 inputs, i64 length, typename Dot::Sum* sums) {
  i64 i = 0;
  for (; i + kTile <= inputs; i += kTile)
    dot_tile<Dot, kTile>(w, w_pitch, x + i * x_pitch, x_pitch, length, sums + i * kRowTile);
  if (kTile > 4 && i + 4 <= inputs) {
    dot_tile<Dot, 4>(w, w_pitch, x + i * x_pitch, x_pitch, length, sums + i * kRowTile);
    i += 4;
  }
  for (; i + 2 <= inputs; i += 2)
    dot_tile<Dot, 2>(w, w_pitch, x + i * x_pitch, x_pitch, length, sums + i * kRowTile);
  if (i < inputs) dot_tile<Dot, 1>(w, w_pitch, x + i * x_pitch, x_pitch, length, sums + i * kRowTile);
}

}  // namespace
