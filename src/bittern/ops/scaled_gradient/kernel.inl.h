// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set, after its simd header. A task is some columns of all
// rows, whose sums stay in the first-level cache.

namespace {

constexpr i64 kColumns = 1024;

struct ScaledJob {
  const float* grad;
  const float* y;
  const float* factor;
  i64 rows, n;
  float* to_y;
  float* to_factor;
};

void scaled_task(void* context, i64 index) {
  const auto job = *static_cast<const ScaledJob*>(context);
  const i64 first = index * kColumns, columns = smaller(kColumns, job.n - first);
  const float* factor = job.factor + first;
  float sums[kColumns] = {};
  for (i64 row = 0; row < job.rows; ++row) {
    const i64 place = row * job.n + first;
    const float *grad = job.grad + place, *y = job.y + place;
    float* to_y = job.to_y + place;
    i64 j = 0;
    for (; j + kLanes <= columns; j += kLanes) {
      const F32 g = load(grad + j);
      store(to_y + j, multiply(g, load(factor + j)));
      store(sums + j, multiply_add(g, load(y + j), load(sums + j)));
    }
    for (; j < columns; ++j) {
      to_y[j] = grad[j] * factor[j];
      sums[j] = __builtin_fmaf(grad[j], y[j], sums[j]);
    }
  }
  for (i64 j = 0; j < columns; ++j) job.to_factor[first + j] = sums[j];
}

void scaled_gradient(const float* grad, const float* y, const float* factor, i64 rows, i64 n, float* to_y,
                     float* to_factor, int threads) {
  ScaledJob job{grad, y, factor, rows, n, to_y, to_factor};
  parallel_for(ceil_div(n, kColumns), threads, scaled_task, &job);
}

}  // namespace

const ScaledGradientKernels scaled_gradient_kernels = {scaled_gradient};
