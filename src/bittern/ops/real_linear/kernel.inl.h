// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set, after its simd header.
//
// Lanes are outputs, so any order of a sum is as fast as another: its chains run one after the other, each on
// many outputs side by side, and what is held of the tree lies in memory that stays in the cache. Rows are
// first brought into the order of the products, where that is another than the one in which they lie.

namespace {

constexpr int kUnitVectors = static_cast<int>(kRealUnit / kLanes);
constexpr int kSumVectors = 8;  // of sums side by side, so that no fma waits for the one before
constexpr int kRowUnits = kUnitVectors >= kSumVectors ? 1 : kSumVectors / kUnitVectors;  // of one row
constexpr int kRowsTogether = 4;
constexpr int kTileUnits = kUnitVectors >= kSumVectors / kRowsTogether
                               ? 1
                               : kSumVectors / kRowsTogether / kUnitVectors;  // of several rows

template <int rows, int units>
struct Sums {
  F32 at[rows][units * kUnitVectors];
};

// x: the rows, from the next product on; weights: of the first unit, from the next product on.
template <bool fused, int rows, int units>
void extend(Sums<rows, units>& sums, const RealLinear& c, const float* x, const float* weights, i64 count) {
  constexpr int kVectors = units * kUnitVectors;
  const i64 unit = c.features * kRealUnit;
  Sums<rows, units> acc = sums;
  for (i64 s = 0; s < count; ++s) {
    const float* row = weights + s * kRealUnit;
    F32 w[kVectors];
    BITTERN_UNROLL
    for (int v = 0; v < kVectors; ++v) w[v] = load(row + v / kUnitVectors * unit + v % kUnitVectors * kLanes);
    BITTERN_UNROLL
    for (int r = 0; r < rows; ++r) {
      const F32 value = splat(x[r * c.features + s]);
      BITTERN_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        F32& sum = acc.at[r][v];
        sum = fused ? multiply_add(value, w[v], sum) : add(sum, multiply(value, w[v]));
      }
    }
  }
  sums = acc;
}

template <int rows, int units>
void fill(Sums<rows, units>& sums, const float* bias) {
  for (int r = 0; r < rows; ++r) {
    for (int v = 0; v < units * kUnitVectors; ++v) {
      sums.at[r][v] = bias == nullptr ? splat(0.0f) : load(bias + v * kLanes);
    }
  }
}

// The sums of `rows` rows for the outputs of some units, the first of which is `channel`.
template <int rows, int units>
Sums<rows, units> sum_tree(const RealLinear& c, const float* x, i64 channel) {
  Sums<rows, units> held[kMostSums];
  const float* weights = c.weights + channel * c.features;
  i64 last = -1;
  for (const i64* part = c.tree; part != c.tree + 2 * c.parts; part += 2) {
    const auto kind = static_cast<TreePart>(part[0]);
    if (kind == TreePart::add) {
      --last;
      for (int r = 0; r < rows; ++r) {
        for (int v = 0; v < units * kUnitVectors; ++v) {
          held[last].at[r][v] = add(held[last].at[r][v], held[last + 1].at[r][v]);
        }
      }
      continue;
    }
    if (kind != TreePart::extend)
      fill<rows, units>(held[++last], kind == TreePart::bias ? c.bias + channel : nullptr);
    if (kind == TreePart::bias) continue;
    const auto add_products = c.fused != 0 ? extend<true, rows, units> : extend<false, rows, units>;
    add_products(held[last], c, x, weights, part[1]);
    x += part[1], weights += part[1] * kRealUnit;
  }
  return held[0];
}

template <int rows, int units>
void linear_tile(const RealLinear& c, i64 row, i64 channel) {
  constexpr i64 kOutputs = units * kRealUnit;
  const Sums<rows, units> sums = sum_tree<rows, units>(c, c.x + row * c.features, channel);
  const i64 left = smaller(kOutputs, c.out_features - channel);
  for (int r = 0; r < rows; ++r) {
    float* out = c.out + (row + r) * c.out_row + channel;
    float buffer[kOutputs];
    float* to = left == kOutputs ? out : buffer;
    for (int v = 0; v < units * kUnitVectors; ++v) store(to + v * kLanes, sums.at[r][v]);
    if (to == buffer) std::memcpy(out, buffer, static_cast<std::size_t>(left) * sizeof(float));
  }
}

// All rows, for the outputs of some units.
template <int rows, int units>
i64 linear_rows(const RealLinear& c, i64 row, i64 first, i64 end) {
  for (; c.rows - row >= rows; row += rows) {
    i64 channel = first;
    for (; end - channel > (units - 1) * kRealUnit; channel += units * kRealUnit) {
      linear_tile<rows, units>(c, row, channel);
    }
    for (; channel < end; channel += kRealUnit) linear_tile<rows, 1>(c, row, channel);
  }
  return row;
}

constexpr i64 kTaskOutputs = kRowUnits * kRealUnit;

void linear_task(void* context, i64 index) {
  const RealLinear& c = *static_cast<const RealLinear*>(context);
  const i64 first = index * kTaskOutputs, end = smaller(c.out_features, first + kTaskOutputs);
  const i64 row = linear_rows<kRowsTogether, kTileUnits>(c, 0, first, end);
  linear_rows<1, kRowUnits>(c, row, first, end);
}

// The rows with their numbers in the order of the products.
const float* ordered(const RealLinear& c) {
  if (c.products == nullptr) return c.x;
  float* rows = scratch_array<float>(Scratch::linear_rows, c.rows * c.features);
  for (i64 r = 0; r < c.rows; ++r) {
    for (i64 i = 0; i < c.features; ++i) rows[r * c.features + i] = c.x[r * c.features + c.products[i]];
  }
  return rows;
}

void real_linear(const RealLinear& linear, int threads) {
  constexpr i64 kWorthThreads = i64{1} << 20;  // products
  if (linear.rows == 0) return;
  RealLinear job = linear;
  job.x = ordered(linear);
  const bool large = job.rows * job.features * job.out_features >= kWorthThreads;
  parallel_for(ceil_div(job.out_features, kTaskOutputs), large ? threads : 1, linear_task, &job);
}

}  // namespace

const RealLinearKernels real_linear_kernels = {real_linear};
