// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set, after sign_slopes/approx.inl.h. Channels last: the
// rows of a part are gone through for one vector of channels after another, whose shifts and sums stay in
// registers. Else each channel of a sample is a row, whose numbers are added in kSums sums side by side, so
// that all instruction sets add in one order.

namespace {

constexpr i64 kSums = 16;
constexpr int kVectors = static_cast<int>(kSums / kLanes);

BITTERN_INLINE F32 some(const float* p, i64 count) {
  float part[kLanes] = {};
  std::memcpy(part, p, static_cast<std::size_t>(count) * sizeof(float));
  return load(part);
}

BITTERN_INLINE void put_some(float* p, i64 count, F32 x) {
  float part[kLanes];
  store(part, x);
  std::memcpy(p, part, static_cast<std::size_t>(count) * sizeof(float));
}

BITTERN_INLINE F32 sign_of(F32 x) {
  const F32 zero = splat(0.0f);
  return select(either(greater(x, zero), equal(x, zero)), splat(1.0f), splat(-1.0f));
}

struct ShiftedJob {
  const ShiftedImages* images;
  const float* grad;
  float* sums;
  float* to_x;  // or the signs
};

// ---- channels last

// A column of vectors, or of the `count` channels that are left, through the rows of a part.
template <bool whole>
void sign_column(const ShiftedJob& job, i64 first, i64 end, i64 c, i64 count) {
  const ShiftedImages& m = *job.images;
  const F32 shift = whole ? load(m.shift + c) : some(m.shift + c, count);
  for (i64 row = first; row < end; ++row) {
    const i64 place = row * m.channels + c;
    if constexpr (whole) {
      store(job.to_x + place, sign_of(add(load(m.x + place), shift)));
    } else {
      put_some(job.to_x + place, count, sign_of(add(some(m.x + place, count), shift)));
    }
  }
}

template <bool whole>
void gradient_column(const ShiftedJob& job, i64 first, i64 end, i64 c, i64 count, float* sums) {
  const ShiftedImages& m = *job.images;
  const ApproxRule rule;
  const F32 shift = whole ? load(m.shift + c) : some(m.shift + c, count);
  F32 total = splat(0.0f);
  for (i64 row = first; row < end; ++row) {
    const i64 place = row * m.channels + c;
    if constexpr (whole) {
      const F32 to_x = rule.apply(load(job.grad + place), add(load(m.x + place), shift));
      store(job.to_x + place, to_x);
      total = add(total, to_x);
    } else {
      const F32 to_x = rule.apply(some(job.grad + place, count), add(some(m.x + place, count), shift));
      put_some(job.to_x + place, count, to_x);
      total = add(total, to_x);
    }
  }
  if constexpr (whole) {
    store(sums + c, total);
  } else {
    put_some(sums + c, count, total);
  }
}

void sign_rows(void* context, i64 index) {
  const auto job = *static_cast<const ShiftedJob*>(context);
  const ShiftedImages& m = *job.images;
  const i64 first = index * m.part_rows(), end = smaller(first + m.part_rows(), m.outer);
  i64 c = 0;
  for (; c + kLanes <= m.channels; c += kLanes) sign_column<true>(job, first, end, c, kLanes);
  if (c < m.channels) sign_column<false>(job, first, end, c, m.channels - c);
}

void gradient_rows(void* context, i64 index) {
  const auto job = *static_cast<const ShiftedJob*>(context);
  const ShiftedImages& m = *job.images;
  const i64 first = index * m.part_rows(), end = smaller(first + m.part_rows(), m.outer);
  float* sums = job.sums + index * m.channels;
  i64 c = 0;
  for (; c + kLanes <= m.channels; c += kLanes) gradient_column<true>(job, first, end, c, kLanes, sums);
  if (c < m.channels) gradient_column<false>(job, first, end, c, m.channels - c, sums);
}

// ---- channel by channel

void sign_channels(void* context, i64 index) {
  const auto job = *static_cast<const ShiftedJob*>(context);
  const ShiftedImages& m = *job.images;
  for (i64 channel = 0; channel < m.channels; ++channel) {
    const F32 shift = splat(m.shift[channel]);
    const i64 row = (index * m.channels + channel) * m.inner;
    i64 i = 0;
    for (; i + kLanes <= m.inner; i += kLanes) {
      store(job.to_x + row + i, sign_of(add(load(m.x + row + i), shift)));
    }
    const i64 left = m.inner - i;
    if (left > 0) put_some(job.to_x + row + i, left, sign_of(add(some(m.x + row + i, left), shift)));
  }
}

// Of one row; out: `n` numbers.
float gradient_row(const float* grad, const float* x, F32 shift, i64 n, float* out) {
  const ApproxRule rule;
  F32 sums[kVectors];
  BITTERN_UNROLL
  for (int k = 0; k < kVectors; ++k) sums[k] = splat(0.0f);
  i64 i = 0;
  for (; i + kSums <= n; i += kSums) {
    BITTERN_UNROLL
    for (int k = 0; k < kVectors; ++k) {
      const i64 place = i + k * kLanes;
      const F32 to_x = rule.apply(load(grad + place), add(load(x + place), shift));
      store(out + place, to_x);
      sums[k] = add(sums[k], to_x);
    }
  }
  if (i < n) {
    const std::size_t bytes = static_cast<std::size_t>(n - i) * sizeof(float);
    float last_grad[kSums] = {}, last_x[kSums] = {}, last_out[kSums];
    std::memcpy(last_grad, grad + i, bytes);
    std::memcpy(last_x, x + i, bytes);
    for (int k = 0; k < kVectors; ++k) {
      const i64 place = k * kLanes;
      const F32 to_x = rule.apply(load(last_grad + place), add(load(last_x + place), shift));
      store(last_out + place, to_x);
    }
    std::memcpy(out + i, last_out, bytes);
    for (i64 k = n - i; k < kSums; ++k) last_out[k] = 0.0f;  // 0 times an infinite shift's slope is NaN
    for (int k = 0; k < kVectors; ++k) sums[k] = add(sums[k], load(last_out + k * kLanes));
  }
  float lanes[kSums];
  for (int k = 0; k < kVectors; ++k) store(lanes + k * kLanes, sums[k]);
  double total = 0.0;
  for (i64 k = 0; k < kSums; ++k) total += static_cast<double>(lanes[k]);
  return static_cast<float>(total);
}

void gradient_channels(void* context, i64 index) {
  const auto job = *static_cast<const ShiftedJob*>(context);
  const ShiftedImages& m = *job.images;
  for (i64 channel = 0; channel < m.channels; ++channel) {
    const i64 number = index * m.channels + channel, row = number * m.inner;
    job.sums[number] =
        gradient_row(job.grad + row, m.x + row, splat(m.shift[channel]), m.inner, job.to_x + row);
  }
}

// ----

void shifted_sign(const ShiftedImages& images, float* out, int threads) {
  ShiftedJob job{&images, nullptr, nullptr, out};
  parallel_for(images.parts(), threads, images.last() ? sign_rows : sign_channels, &job);
}

void shifted_gradient(const ShiftedImages& images, const float* grad, float* sums, float* to_x,
                      float* to_shift, int threads) {
  ShiftedJob job{&images, grad, sums, to_x};
  parallel_for(images.parts(), threads, images.last() ? gradient_rows : gradient_channels, &job);
  for (i64 c = 0; c < images.channels; ++c) {
    double total = 0.0;
    for (i64 part = 0; part < images.parts(); ++part) {
      total += static_cast<double>(sums[part * images.channels + c]);
    }
    to_shift[c] = static_cast<float>(total);
  }
}

}  // namespace

const ShiftedSignKernels shifted_sign_kernels = {shifted_sign, shifted_gradient};
