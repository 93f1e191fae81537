// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set, after its simd header. A task is some columns of all
// rows, whose sums stay in the first-level cache.

namespace {

constexpr i64 kColumns = 1024;

// Whole numbers of up to 15 bits are kept so much higher.
constexpr i32 kLift = 32768;

BITTERN_INLINE F32 numbers_at(const float* y) {
  return load(y);
}
BITTERN_INLINE F32 numbers_at(const u16* lifted) {
  return to_float(subtract(load(lifted), splat(kLift)));
}
inline float number_at(const float* y) {
  return *y;
}
inline float number_at(const u16* lifted) {
  return static_cast<float>(i32{*lifted} - kLift);
}

template <class Y>
struct ScaledJob {
  const float* grad;
  const Y* y;
  const float* factor;
  i64 rows, n;
  float* to_y;
  float* to_factor;
};

template <class Y>
void scaled_task(void* context, i64 index) {
  const auto job = *static_cast<const ScaledJob<Y>*>(context);
  const i64 first = index * kColumns, columns = smaller(kColumns, job.n - first);
  const float* factor = job.factor + first;
  float sums[kColumns] = {};
  for (i64 row = 0; row < job.rows; ++row) {
    const i64 place = row * job.n + first;
    const float* grad = job.grad + place;
    const Y* y = job.y + place;
    float* to_y = job.to_y + place;
    i64 j = 0;
    for (; j + kLanes <= columns; j += kLanes) {
      const F32 g = load(grad + j);
      store(to_y + j, multiply(g, load(factor + j)));
      store(sums + j, multiply_add(g, numbers_at(y + j), load(sums + j)));
    }
    for (; j < columns; ++j) {
      to_y[j] = grad[j] * factor[j];
      sums[j] = __builtin_fmaf(grad[j], number_at(y + j), sums[j]);
    }
  }
  for (i64 j = 0; j < columns; ++j) job.to_factor[first + j] = sums[j];
}

template <class Y>
void scaled_gradient(const float* grad, const Y* y, const float* factor, i64 rows, i64 n, float* to_y,
                     float* to_factor, int threads) {
  ScaledJob<Y> job{grad, y, factor, rows, n, to_y, to_factor};
  parallel_for(ceil_div(n, kColumns), threads, scaled_task<Y>, &job);
}

// ---- whole numbers

struct WholeJob {
  const float* y;
  const float* factor;
  i64 n;
  float* out;
  u16* lifted;
  i32 strange;  // whether another number was seen; then what is left is not looked at
};

// `strange` becomes 1 in a lane that sees another number, NaN among them.
BITTERN_INLINE I32 lifted_number(F32 y, F32& strange) {
  const F32 most = splat(static_cast<float>(kLift - 1));
  const Mask whole = equal(floor_of(y), y),
             small = either(greater(most, absolute(y)), equal(most, absolute(y)));
  const F32 known = select(small, select(whole, y, splat(0.0f)), splat(0.0f));
  strange = select(equal(known, y), strange, splat(1.0f));
  return add(to_int(known), splat(kLift));
}

void whole_task(void* context, i64 index) {
  auto& job = *static_cast<WholeJob*>(context);
  if (__atomic_load_n(&job.strange, __ATOMIC_RELAXED) != 0) return;
  const float* y = job.y + index * job.n;
  float* out = job.out + index * job.n;
  u16* lifted = job.lifted + index * job.n;
  F32 strange = splat(0.0f);
  i64 j = 0;
  for (; j + kLanes <= job.n; j += kLanes) {
    const F32 part = load(y + j);
    store(out + j, multiply(part, load(job.factor + j)));
    store_halves(lifted + j, lifted_number(part, strange));
  }
  if (j < job.n) {
    const i64 left = job.n - j;
    float last[kLanes] = {};
    u16 halves[kLanes];
    std::memcpy(last, y + j, static_cast<std::size_t>(left) * sizeof(float));
    store_halves(halves, lifted_number(load(last), strange));
    std::memcpy(lifted + j, halves, static_cast<std::size_t>(left) * sizeof(u16));
    for (; j < job.n; ++j) out[j] = y[j] * job.factor[j];
  }
  if (any(greater(strange, splat(0.0f)))) __atomic_store_n(&job.strange, 1, __ATOMIC_RELAXED);
}

bool scale_whole(const float* y, const float* factor, i64 rows, i64 n, float* out, u16* lifted, int threads) {
  WholeJob job{y, factor, n, out, lifted, 0};
  parallel_for(rows, threads, whole_task, &job);
  return job.strange == 0;
}

}  // namespace

const ScaledGradientKernels scaled_gradient_kernels = {scaled_gradient<float>, scaled_gradient<u16>,
                                                       scale_whole};
