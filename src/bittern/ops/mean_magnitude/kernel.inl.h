// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set, after its simd header. Channel c goes into sum c
// modulo 16, and the halves of the sums are added until one is left. With channels last a vector holds the
// sums of one pixel, else one sum of as many pixels; the order of additions is the same.

namespace {

inline float magnitude(float x) {
  return __builtin_fabsf(x);
}

// Of numbers side by side.
inline float sum_of_row(const float* x, i64 count) {
  F32 part[kParts];
  BITTERN_UNROLL
  for (int j = 0; j < kParts; ++j) part[j] = splat(0.0f);
  i64 c = 0;
  for (; c + kSums <= count; c += kSums) {
    BITTERN_UNROLL
    for (int j = 0; j < kParts; ++j) part[j] = add(part[j], absolute(load(x + c + j * kLanes)));
  }
  if (c < count) {
    float rest[kSums] = {};
    std::memcpy(rest, x + c, static_cast<std::size_t>(count - c) * sizeof(float));
    BITTERN_UNROLL
    for (int j = 0; j < kParts; ++j) part[j] = add(part[j], absolute(load(rest + j * kLanes)));
  }
  return joined_vectors(part);
}

// Of numbers anywhere.
inline float sum_of_pixel(const float* x, i64 count, i64 step) {
  float sums[kSums] = {};
  for (i64 c = 0; c < count; ++c) sums[c % kSums] += magnitude(x[c * step]);
  return joined(sums, kSums);
}

// The sums of kLanes pixels side by side.
inline F32 sums_of_pixels(const float* x, i64 channels, i64 step) {
  F32 sums[kSums];
  const i64 first = smaller(channels, kSums);
  for (i64 k = 0; k < first; ++k) sums[k] = absolute(load(x + k * step));
  for (i64 k = first; k < kSums; ++k) sums[k] = splat(0.0f);
  for (i64 c = kSums; c < channels; c += kSums) {
    const i64 count = smaller(channels - c, kSums);
    for (i64 k = 0; k < count; ++k) sums[k] = add(sums[k], absolute(load(x + (c + k) * step)));
  }
  for (i64 half = kSums / 2; half > 0; half /= 2) {
    for (i64 k = 0; k < half; ++k) sums[k] = add(sums[k], sums[k + half]);
  }
  return sums[0];
}

// ---- the mean of every pixel

// Images as runs of pixels with one step between neighbours.
struct MeansJob {
  const InputScale* scale;
  i64 runs, pixels;  // of an image
  i64 pieces;        // of a run
};

constexpr i64 kPiece = 1024;  // pixels

void means_task(void* context, i64 index) {
  const auto& job = *static_cast<const MeansJob*>(context);
  const InputScale& s = *job.scale;
  const i64 run = index / job.pieces, first = index % job.pieces * kPiece;
  const i64 end = smaller(first + kPiece, job.pixels);
  const float* x = s.x + run / job.runs * s.x_image + run % job.runs * s.x_row;
  float* means = s.means + run * job.pixels;
  const float channels = static_cast<float>(s.channels);
  i64 p = first;
  if (s.x_channel == 1 && s.channels > 1) {
    for (; p < end; ++p) means[p] = sum_of_row(x + p * s.x_pixel, s.channels) / channels;
  } else if (s.x_pixel == 1) {
    for (; p + kLanes <= end; p += kLanes) {
      store(means + p, divide(sums_of_pixels(x + p, s.channels, s.x_channel), splat(channels)));
    }
  }
  for (; p < end; ++p) means[p] = sum_of_pixel(x + p * s.x_pixel, s.channels, s.x_channel) / channels;
}

// ---- carried to the outputs

// Adds what one row of a window sees: out[x] += row[x * stride + shift], where that is inside.
inline void add_tap(const float* row, i64 width, i64 stride, i64 shift, i64 out_width, float* out) {
  const i64 first = shift < 0 ? ceil_div(-shift, stride) : 0;
  const i64 last = shift < width ? smaller(out_width, (width - 1 - shift) / stride + 1) : 0;
  if (stride == 1) {
    for (i64 x = first; x < last; ++x) out[x] += row[x + shift];
  } else {
    for (i64 x = first; x < last; ++x) out[x] += row[x * stride + shift];
  }
}

void spread_task(void* context, i64 index) {
  const auto& s = *static_cast<const InputScale*>(context);
  const i64 image = index / s.out_height, top = index % s.out_height * s.stride_h - s.pad_h;
  const float* means = s.means + image * s.height * s.width;
  float* out = s.out + index * s.out_width;
  for (i64 x = 0; x < s.out_width; ++x) out[x] = 0.0f;
  for (i64 i = 0; i < s.kernel_h; ++i) {
    const i64 y = top + i * s.dilation_h;
    if (y < 0 || y >= s.height) continue;
    for (i64 j = 0; j < s.kernel_w; ++j) {
      add_tap(means + y * s.width, s.width, s.stride_w, j * s.dilation_w - s.pad_w, s.out_width, out);
    }
  }
  const float taps = static_cast<float>(s.kernel_h * s.kernel_w);
  for (i64 x = 0; x < s.out_width; ++x) out[x] /= taps;
}

void sample_task(void* context, i64 image) {
  const auto& s = *static_cast<const InputScale*>(context);
  const i64 pixels = s.height * s.width, outputs = s.out_height * s.out_width;
  const float mean = sum_of_row(s.means + image * pixels, pixels) / static_cast<float>(pixels);
  float* out = s.out + image * outputs;
  for (i64 i = 0; i < outputs; ++i) out[i] = mean;
}

constexpr i64 kWorthThreads = i64{1} << 15;  // numbers

void window_mean(const InputScale& s, int threads) {
  const i64 additions = s.batch * s.out_height * s.out_width * s.kernel_h * s.kernel_w;
  parallel_for(s.batch * s.out_height, additions <= kWorthThreads ? 1 : threads, spread_task,
               const_cast<InputScale*>(&s));
}

void input_scale(const InputScale& s, int threads) {
  const i64 pixels = s.batch * s.height * s.width;
  if (pixels * s.channels <= kWorthThreads) threads = 1;
  const bool whole = s.x_row == s.width * s.x_pixel || s.height == 1;  // an image is one run
  MeansJob job{&s, whole ? 1 : s.height, whole ? s.height * s.width : s.width, 1};
  job.pieces = larger(1, ceil_div(job.pixels, kPiece));
  parallel_for(s.batch * job.runs * job.pieces, threads, means_task, &job);
  if (pixels != 0 && s.out == s.means) return;
  void* scale = const_cast<InputScale*>(&s);
  if (s.per_sample != 0) return parallel_for(s.batch, 1, sample_task, scale);
  parallel_for(s.batch * s.out_height, threads, spread_task, scale);
}

}  // namespace

const MeanMagnitudeKernels mean_magnitude_kernels = {input_scale, window_mean};
