// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set, after its simd header. Sums run in 64 lanes of
// float32 over runs of 4096 numbers, then in double in the order of the lanes: so they are the same however
// wide a vector is.

namespace {

constexpr i64 kWide = 64, kRun = 4096;
constexpr int kParts = static_cast<int>(kWide / kLanes);

struct Sums {
  F32 part[kParts];
  double total = 0;

  BITTERN_INLINE void clear() {
    BITTERN_UNROLL
    for (int j = 0; j < kParts; ++j) part[j] = splat(0.0f);
  }
  void flush() {
    float lanes[kWide];
    for (int j = 0; j < kParts; ++j) store(lanes + j * kLanes, part[j]);
    for (i64 j = 0; j < kWide; ++j) total += static_cast<double>(lanes[j]);
    clear();
  }
};

// Calls body(i, part) for every whole vector of a run and tail(i, lane) for what is left behind the last 64.
template <class Body, class Tail>
BITTERN_INLINE double summed(i64 n, Body body, Tail tail) {
  Sums sums;
  sums.clear();
  const i64 whole = n / kWide * kWide;
  for (i64 run = 0; run < whole; run += kRun) {
    const i64 end = smaller(whole, run + kRun);
    for (i64 i = run; i < end; i += kWide) {
      BITTERN_UNROLL
      for (int j = 0; j < kParts; ++j) sums.part[j] = body(i + j * kLanes, sums.part[j]);
    }
    sums.flush();
  }
  for (i64 i = whole; i < n; ++i) sums.total += tail(i);
  return sums.total;
}

struct StandardJob {
  const float* grad;
  const float* x;
  float* statistics;
  float* out;
  i64 n;
  double epsilon;
};

void standard_task(void* context, i64 sample) {
  const auto& job = *static_cast<const StandardJob*>(context);
  const float* x = job.x + sample * job.n;
  float* out = job.out + sample * job.n;
  const double n = static_cast<double>(job.n);
  const double sum = summed(
      job.n,
      [&](i64 i, F32 total) {
        const F32 value = load(x + i), zero = splat(0.0f);
        store(out + i, select(either(greater(value, zero), equal(value, zero)), splat(1.0f), splat(-1.0f)));
        return add(total, value);
      },
      [&](i64 i) {
        out[i] = x[i] >= 0.0f ? 1.0f : -1.0f;
        return static_cast<double>(x[i]);
      });
  const float mean = static_cast<float>(sum / n);
  const F32 means = splat(mean);
  double squares = summed(
      job.n,
      [&](i64 i, F32 total) {
        const F32 centered = subtract(load(x + i), means);
        return multiply_add(centered, centered, total);
      },
      [&](i64 i) {
        const double centered = static_cast<double>(x[i] - mean);
        return centered * centered;
      });
  const double rest = sum / n - static_cast<double>(mean);  // the mean that was taken is a float
  squares -= rest * rest * n;
  job.statistics[2 * sample] = mean;
  job.statistics[2 * sample + 1] = static_cast<float>(1 / __builtin_sqrt(squares / (n - 1) + job.epsilon));
}

BITTERN_INLINE F32 slope_of(F32 y) {
  const F32 size = absolute(y);
  return maximum(splat(0.0f), subtract(splat(2.0f), add(size, size)));
}

void standard_gradient_task(void* context, i64 sample) {
  const auto& job = *static_cast<const StandardJob*>(context);
  const float* x = job.x + sample * job.n;
  const float* grad = job.grad + sample * job.n;
  float* out = job.out + sample * job.n;
  const float mean = job.statistics[2 * sample], inv = job.statistics[2 * sample + 1];
  const F32 invs = splat(inv), means = splat(mean);
  const double sum = summed(
      job.n,
      [&](i64 i, F32 total) {
        const F32 value = load(x + i), d = multiply(load(grad + i), slope_of(multiply(value, invs)));
        store(out + i, multiply(d, invs));
        return multiply_add(d, value, total);
      },
      [&](i64 i) {
        const float y = x[i] * inv, size = y < 0 ? -y : y, line = 2.0f - (size + size);
        const float d = grad[i] * (line < 0 ? 0.0f : line);
        out[i] = d * inv;
        return static_cast<double>(d) * static_cast<double>(x[i]);
      });
  const double cube = static_cast<double>(inv) * static_cast<double>(inv) * static_cast<double>(inv);
  const float factor = static_cast<float>(sum * cube / static_cast<double>(job.n - 1));
  const F32 factors = splat(factor);
  i64 i = 0;
  for (; i + kLanes <= job.n; i += kLanes) {
    store(out + i, subtract_product(load(out + i), subtract(load(x + i), means), factors));
  }
  for (; i < job.n; ++i) out[i] = __builtin_fmaf(-(x[i] - mean), factor, out[i]);
}

void standard_sign(const float* x, i64 samples, i64 n, double epsilon, float* out, float* statistics,
                   int threads) {
  StandardJob job{nullptr, x, statistics, out, n, epsilon};
  parallel_for(samples, threads, standard_task, &job);
}

void standard_gradient(const float* grad, const float* x, const float* statistics, i64 samples, i64 n,
                       float* out, int threads) {
  StandardJob job{grad, x, const_cast<float*>(statistics), out, n, 0};
  parallel_for(samples, threads, standard_gradient_task, &job);
}

}  // namespace

const StandardSignKernels standard_sign_kernels = {standard_sign, standard_gradient};
