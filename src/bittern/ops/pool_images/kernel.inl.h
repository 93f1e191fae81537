// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set, after its simd header. One task is one row of
// results.

namespace {

// The part of a window that lies in the image, and what a mean divides by.
struct Window {
  i64 top, bottom, left, right;
  float divisor;
};

Window window_at(const PoolImages& p, i64 y, i64 x) {
  const i64 top = y * p.stride_h - p.pad_h, left = x * p.stride_w - p.pad_w;
  const i64 bottom = smaller(top + p.kernel_h, p.height + p.pad_h);
  const i64 right = smaller(left + p.kernel_w, p.width + p.pad_w);
  const Window w{larger(top, 0), smaller(bottom, p.height), larger(left, 0), smaller(right, p.width), 0};
  const i64 padded = (bottom - top) * (right - left), inside = (w.bottom - w.top) * (w.right - w.left);
  return {w.top, w.bottom, w.left, w.right, static_cast<float>(p.count_padding != 0 ? padded : inside)};
}

template <bool kAffine>
inline F32 mapped(const float* x, F32 alpha, F32 beta) {
  return kAffine ? multiply_add(load(x), alpha, beta) : load(x);
}

// The larger; NaN where one is NaN.
inline F32 larger_of(F32 most, F32 x) {
  return select(equal(x, x), maximum(x, most), x);
}

// kLanes channels of one result, in the order in which torch sums a window.
template <bool kAverage, bool kAffine>
inline F32 pooled(const PoolImages& p, const float* image, const Window& w, F32 alpha, F32 beta) {
  F32 result = splat(kAverage ? 0.0f : -__builtin_inff());
  for (i64 y = w.top; y < w.bottom; ++y) {
    const float* at = image + (y * p.width + w.left) * p.channels;
    for (i64 x = w.left; x < w.right; ++x, at += p.channels) {
      const F32 value = mapped<kAffine>(at, alpha, beta);
      result = kAverage ? add(result, value) : larger_of(result, value);
    }
  }
  return kAverage ? divide(result, splat(w.divisor)) : result;
}

// Channels that fill no vector.
template <bool kAverage, bool kAffine>
float pooled_channel(const PoolImages& p, const float* image, const Window& w, i64 channel) {
  float result = kAverage ? 0.0f : -__builtin_inff();
  for (i64 y = w.top; y < w.bottom; ++y) {
    for (i64 x = w.left; x < w.right; ++x) {
      float value = image[(y * p.width + x) * p.channels + channel];
      if (kAffine) value = __builtin_fmaf(value, p.affine[channel], p.affine[p.channels + channel]);
      result = kAverage ? result + value : value > result || value != value ? value : result;
    }
  }
  return kAverage ? result / w.divisor : result;
}

template <bool kAverage, bool kAffine>
void pool_row(void* context, i64 row) {
  const auto& p = *static_cast<const PoolImages*>(context);
  const float* image = p.x + row / p.out_height * p.height * p.width * p.channels;
  float* out = p.out + row * p.out_width * p.channels;
  for (i64 x = 0; x < p.out_width; ++x, out += p.channels) {
    const Window w = window_at(p, row % p.out_height, x);
    i64 c = 0;
    for (; c + kLanes <= p.channels; c += kLanes) {
      const F32 alpha = kAffine ? load(p.affine + c) : splat(1.0f);
      const F32 beta = kAffine ? load(p.affine + p.channels + c) : splat(0.0f);
      store(out + c, pooled<kAverage, kAffine>(p, image + c, w, alpha, beta));
    }
    for (; c < p.channels; ++c) out[c] = pooled_channel<kAverage, kAffine>(p, image, w, c);
  }
}

Task row_task(const PoolImages& p) {
  if (p.average != 0) return p.affine != nullptr ? pool_row<true, true> : pool_row<true, false>;
  return p.affine != nullptr ? pool_row<false, true> : pool_row<false, false>;
}

// ---- means of whole images

struct ReadAll {
  F32 operator()(const float* x) const { return load(x); }
};

struct ReadSome {
  i64 count;
  F32 operator()(const float* x) const {
    float lanes[kLanes] = {};
    std::memcpy(lanes, x, static_cast<std::size_t>(count) * sizeof(float));
    return load(lanes);
  }
};

// The sum of `count` numbers `step` floats apart, as torch's cascade adds them: four sums side by side, each
// moved on to a second one after 16 numbers.
template <class Read>
F32 cascade(const float* x, i64 step, i64 count, Read read) {
  constexpr int kSums = 4;
  constexpr i64 kLevel = 16;
  F32 sums[kSums], carried[kSums];
  for (int k = 0; k < kSums; ++k) sums[k] = carried[k] = splat(0.0f);
  const i64 groups = count / kSums;
  for (i64 g = 0; g < groups; ++g) {
    for (int k = 0; k < kSums; ++k) sums[k] = add(sums[k], read(x + (g * kSums + k) * step));
    if ((g + 1) % kLevel != 0) continue;
    for (int k = 0; k < kSums; ++k) {
      carried[k] = add(carried[k], sums[k]);
      sums[k] = splat(0.0f);
    }
  }
  for (int k = 0; k < kSums; ++k) sums[k] = add(sums[k], carried[k]);
  for (i64 i = groups * kSums; i < count; ++i) sums[0] = add(sums[0], read(x + i * step));
  for (int k = 1; k < kSums; ++k) sums[0] = add(sums[0], sums[k]);
  return sums[0];
}

// What fills no vector, then one lane after another.
template <class Read>
F32 mean_of_channels(const PoolImages& p, const float* x, Read read) {
  const i64 pixels = p.height * p.width, vectors = pixels / p.lanes;
  F32 total = splat(0.0f);
  for (i64 i = vectors * p.lanes; i < pixels; ++i) total = add(total, read(x + i * p.channels));
  for (i64 lane = 0; lane < p.lanes; ++lane) {
    total = add(total, cascade(x + lane * p.channels, p.lanes * p.channels, vectors, read));
  }
  return divide(total, splat(static_cast<float>(pixels)));
}

void mean_of_image(void* context, i64 image) {
  const auto& p = *static_cast<const PoolImages*>(context);
  const float* x = p.x + image * p.height * p.width * p.channels;
  float* out = p.out + image * p.channels;
  i64 c = 0;
  for (; c + kLanes <= p.channels; c += kLanes) store(out + c, mean_of_channels(p, x + c, ReadAll{}));
  if (c == p.channels) return;
  float rest[kLanes];
  store(rest, mean_of_channels(p, x + c, ReadSome{p.channels - c}));
  std::memcpy(out + c, rest, static_cast<std::size_t>(p.channels - c) * sizeof(float));
}

void pool_images(const PoolImages& p, int threads) {
  constexpr i64 kWorthThreads = i64{1} << 15;  // elements
  PoolImages job = p;
  if (p.lanes != 0) {
    const bool many = p.batch * p.height * p.width * p.channels > kWorthThreads;
    return parallel_for(p.batch, many ? threads : 1, mean_of_image, &job);
  }
  const bool large = p.batch * p.out_height * p.out_width * p.channels > kWorthThreads;
  parallel_for(p.batch * p.out_height, large ? threads : 1, row_task(p), &job);
}

}  // namespace

const PoolImagesKernels pool_images_kernels = {pool_images};
