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

// Means of k numbers side by side, of images of one channel: rows of channels are read as such.
template <i64 k>
void mean_of_neighbours(void* context, i64 row) {
  const auto& p = *static_cast<const PoolImages*>(context);
  const float* x = p.x + (row / p.out_height * p.height + row % p.out_height * p.stride_h) * p.width;
  float* out = p.out + row * p.out_width;
  for (i64 i = 0; i < p.out_width; ++i, x += k) {
    float sum = 0;
    for (i64 j = 0; j < k; ++j) sum += x[j];
    out[i] = sum / static_cast<float>(k);
  }
}

bool takes_neighbours(const PoolImages& p) {
  return p.average != 0 && p.affine == nullptr && p.channels == 1 && p.kernel_h == 1 &&
         p.pad_h + p.pad_w == 0 && p.kernel_w == p.stride_w && p.out_width * p.kernel_w <= p.width;
}

Task row_task(const PoolImages& p) {
  if (takes_neighbours(p) && p.kernel_w == 2) return mean_of_neighbours<2>;
  if (takes_neighbours(p) && p.kernel_w == 4) return mean_of_neighbours<4>;
  if (takes_neighbours(p) && p.kernel_w == 8) return mean_of_neighbours<8>;
  if (p.average != 0) return p.affine != nullptr ? pool_row<true, true> : pool_row<true, false>;
  return p.affine != nullptr ? pool_row<false, true> : pool_row<false, false>;
}

// ---- means of whole images

// Some channels of a pixel, of which fewer than a vector may be left.
inline F32 load_some(const float* x, i64 count) {
  if (count >= kLanes) return load(x);
  float lanes[kLanes] = {};
  std::memcpy(lanes, x, static_cast<std::size_t>(count) * sizeof(float));
  return load(lanes);
}

constexpr i64 kMeanChannels = 64;  // summed together, while the image is read once
constexpr i64 kSums = 4, kLevel = 16;

using MeanRow = float[kMeanChannels];

inline void add_row(MeanRow& sums, const float* x, i64 channels) {
  for (i64 c = 0; c < channels; c += kLanes) {
    store(sums + c, add(load(sums + c), load_some(x + c, channels - c)));
  }
}

// The sums of each lane as torch's cascade adds them: four side by side, each moved on to a second one after
// 16 numbers. The first of each lane becomes its sum.
void cascade(const PoolImages& p, const float* x, i64 channels, MeanRow (&sums)[kMostMeanLanes][kSums]) {
  static_assert(kMeanChannels % kLanes == 0, "rows are whole vectors");
  MeanRow carried[kMostMeanLanes][kSums];
  std::memset(sums, 0, sizeof sums);
  std::memset(carried, 0, sizeof carried);
  const i64 numbers = p.height * p.width / p.lanes, groups = numbers / kSums;
  for (i64 i = 0; i < groups * kSums; ++i) {
    for (i64 lane = 0; lane < p.lanes; ++lane, x += p.channels) add_row(sums[lane][i % kSums], x, channels);
    if ((i + 1) % (kSums * kLevel) != 0) continue;
    for (i64 lane = 0; lane < p.lanes; ++lane) {
      for (i64 k = 0; k < kSums; ++k) add_row(carried[lane][k], sums[lane][k], kMeanChannels);
    }
    std::memset(sums, 0, sizeof sums);
  }
  for (i64 lane = 0; lane < p.lanes; ++lane) {
    for (i64 k = 0; k < kSums; ++k) add_row(sums[lane][k], carried[lane][k], kMeanChannels);
  }
  for (i64 i = groups * kSums; i < numbers; ++i) {
    for (i64 lane = 0; lane < p.lanes; ++lane, x += p.channels) add_row(sums[lane][0], x, channels);
  }
  for (i64 lane = 0; lane < p.lanes; ++lane) {
    for (i64 k = 1; k < kSums; ++k) add_row(sums[lane][0], sums[lane][k], kMeanChannels);
  }
}

// What fills no vector, then one lane after another.
void mean_of_channels(const PoolImages& p, const float* x, i64 channels, float* out) {
  const i64 pixels = p.height * p.width;
  MeanRow sums[kMostMeanLanes][kSums], total = {};
  cascade(p, x, channels, sums);
  for (i64 i = pixels / p.lanes * p.lanes; i < pixels; ++i) add_row(total, x + i * p.channels, channels);
  for (i64 lane = 0; lane < p.lanes; ++lane) add_row(total, sums[lane][0], kMeanChannels);
  for (i64 c = 0; c < channels; ++c) out[c] = total[c] / static_cast<float>(pixels);
}

void mean_of_image(void* context, i64 image) {
  const auto& p = *static_cast<const PoolImages*>(context);
  const float* x = p.x + image * p.height * p.width * p.channels;
  for (i64 c = 0; c < p.channels; c += kMeanChannels) {
    mean_of_channels(p, x + c, smaller(kMeanChannels, p.channels - c), p.out + image * p.channels + c);
  }
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
