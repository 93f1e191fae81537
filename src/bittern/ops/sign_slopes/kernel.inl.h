// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set, after functions, fourier and approx.

namespace {

constexpr i64 kSlopeTask = i64{1} << 15;  // elements per task

// Where the gradient is not grad * slope but a value of its own, `apply` gives it: out = apply(a, b).
template <class Rule>
struct SlopeJob {
  const float* a;
  const float* b;
  float* out;
  i64 n;
  Rule rule;
};

template <class Rule>
void slope_task(void* context, i64 index) {
  const auto job = *static_cast<const SlopeJob<Rule>*>(context);
  const i64 first = index * kSlopeTask, end = smaller(job.n, first + kSlopeTask);
  i64 i = first;
  for (; i + kLanes <= end; i += kLanes) store(job.out + i, job.rule.apply(load(job.a + i), load(job.b + i)));
  if (i == end) return;
  const std::size_t bytes = static_cast<std::size_t>(end - i) * sizeof(float);
  float a[kLanes] = {}, b[kLanes] = {}, out[kLanes];
  std::memcpy(a, job.a + i, bytes);
  std::memcpy(b, job.b + i, bytes);
  store(out, job.rule.apply(load(a), load(b)));
  std::memcpy(job.out + i, out, bytes);
}

template <class Rule>
void slope_all(const float* a, const float* b, i64 n, Rule rule, float* out, int threads) {
  SlopeJob<Rule> job{a, b, out, n, rule};
  parallel_for(ceil_div(n, kSlopeTask), threads, slope_task<Rule>, &job);
}

// ---- max(0, 2 - 2|x|)

void approx(const float* grad, const float* x, i64 n, float* out, int threads) {
  slope_all(grad, x, n, ApproxRule{}, out, threads);
}

// ---- k t (1 - tanh(t x)^2) = 4 k t e / (1 + e)^2 with e = exp(-2 t |x|), which loses no digits in the tail

struct DecayRule {
  F32 minus_2t, largest, scale;
  BITTERN_INLINE F32 apply(F32 grad, F32 x) const {
    const F32 size = minimum(largest, absolute(x));  // in this order a NaN stays
    const F32 e = exponential(product(size, minus_2t)), sum = add(splat(1.0f), e);
    return multiply(grad, divide(multiply(scale, e), multiply(sum, sum)));
  }
};

void error_decay(const float* grad, const float* x, i64 n, float t, float k, float* out, int threads) {
  const float size = t < 0 ? -t : t;
  const DecayRule rule{splat(-2.0f * size), splat(50.0f / size), splat(4.0f * (k * t))};
  slope_all(grad, x, n, rule, out, threads);
}

// ---- the Fourier series

void fourier(const float* grad, const float* x, i64 n, const FourierSlope& slope, float* out, int threads) {
  slope_all(grad, x, n, FourierRule(slope), out, threads);
}

// ---- a sign with noise

struct NoiseRule {
  F32 wave;
  BITTERN_INLINE F32 apply(F32 x, F32 noise) const {
    return sign_with(x, add(noise, multiply(wave, sine(x))));
  }
};

void noisy_sign(const float* x, const float* noise, i64 n, float wave, float* out, int threads) {
  slope_all(x, noise, n, NoiseRule{splat(wave)}, out, threads);
}

}  // namespace

const SignSlopesKernels sign_slopes_kernels = {approx, error_decay, fourier, noisy_sign};
