// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set, after its simd header, kPixels, and kMostUnits and
// kFewUnits: how many units of output channels a tile takes while there are more than kFewUnits, and at the
// end.
//
// Every sum is one chain of fused multiply-adds per output, so the order of its products is all that decides
// its bits. A tile of kPixels pixels by some units of output channels stays in registers: each product
// loads the weights once and broadcasts one number per pixel. A padded image stands in for the tests of taps.

namespace {

constexpr int kUnitVectors = static_cast<int>(kRealUnit / kLanes);
constexpr i64 kTaskPixels = 240;  // at most
constexpr i64 kBlockChannels = kMostUnits * kRealUnit;

struct RealPlan {
  RealConv conv;  // of padded images with channels last
  i64* offsets;   // of each product, from the first tap of a pixel
  i64 products, pixels;
  i64 affine_row;     // floats from alpha to beta
  i64 task_pixels;    // a multiple of kPixels
  i64 blocks, parts;  // blocks of output channels; parts of them, each a task for the same pixels
};

// ---- the padded image

struct PadJob {
  const RealConv* conv;
  float* out;
};

void pad_row(void* context, i64 index) {
  const auto& job = *static_cast<const PadJob*>(context);
  const RealConv& c = *job.conv;
  const i64 rows = c.height + 2 * c.pad_h, columns = c.width + 2 * c.pad_w, y = index % rows - c.pad_h;
  float* out = job.out + index * columns * c.channels;
  const i64 margin = c.pad_w * c.channels;
  const bool inside = y >= 0 && y < c.height;
  for (i64 i = 0; i < (inside ? margin : columns * c.channels); ++i) out[i] = 0;
  if (!inside) return;
  const float* row = c.x + index / rows * c.x_image + y * c.x_row;
  for (i64 k = 0; k < c.channels; ++k) {
    for (i64 x = 0; x < c.width; ++x) out[margin + x * c.channels + k] = row[x * c.x_pixel + k * c.x_channel];
  }
  for (i64 i = columns * c.channels - margin; i < columns * c.channels; ++i) out[i] = 0;
}

RealConv laid_out(const RealConv& conv, int threads) {
  if (conv.pad_h == 0 && conv.pad_w == 0 && conv.x_channel == 1 && conv.x_pixel == conv.channels) return conv;
  RealConv c = conv;
  c.height += 2 * conv.pad_h, c.width += 2 * conv.pad_w;
  c.pad_h = c.pad_w = 0;
  c.x_channel = 1, c.x_pixel = c.channels;
  c.x_row = c.width * c.channels, c.x_image = c.height * c.x_row;
  float* memory = scratch_array<float>(Scratch::padded_input, c.batch * c.x_image);
  PadJob job{&conv, memory};
  parallel_for(c.batch * c.height, threads, pad_row, &job);
  c.x = memory;
  return c;
}

void plan_offsets(RealPlan& plan) {
  const RealConv& c = plan.conv;
  const i64 taps = c.kernel_h * c.kernel_w;
  plan.products = taps * c.channels;
  plan.offsets = scratch_array<i64>(Scratch::tap_offsets, plan.products);
  for (i64 i = 0; i < plan.products; ++i) {
    const i64 tap = c.channels_first != 0 ? i % taps : i / c.channels;
    const i64 channel = c.channels_first != 0 ? i / taps : i % c.channels;
    const i64 y = tap / c.kernel_w * c.dilation_h, x = tap % c.kernel_w * c.dilation_w;
    plan.offsets[i] = y * c.x_row + x * c.channels + channel;
  }
}

// ---- tiles

template <int units>
using Sums = F32[kPixels][units * kUnitVectors];

// One chain of a tile: products [first, end). weights: the first unit's; the next lies `products` rows
// further.
template <int units>
void sum_chain(const RealPlan& plan, const float* const* x, const float* weights, i64 first, i64 end,
               Sums<units>& sums) {
  constexpr int kVectors = units * kUnitVectors;
  const i64 unit = plan.products * kRealUnit;
  Sums<units> acc;
  BITTERN_UNROLL
  for (int p = 0; p < kPixels; ++p) {
    BITTERN_UNROLL
    for (int v = 0; v < kVectors; ++v) acc[p][v] = splat(0.0f);
  }
  for (i64 s = first; s < end; ++s) {
    const float* row = weights + s * kRealUnit;
    const i64 at = plan.offsets[s];
    F32 w[kVectors];
    BITTERN_UNROLL
    for (int v = 0; v < kVectors; ++v) w[v] = load(row + v / kUnitVectors * unit + v % kUnitVectors * kLanes);
    BITTERN_UNROLL
    for (int p = 0; p < kPixels; ++p) {
      const F32 value = splat(x[p][at]);
      BITTERN_UNROLL
      for (int v = 0; v < kVectors; ++v) acc[p][v] = multiply_add(value, w[v], acc[p][v]);
    }
  }
  BITTERN_UNROLL
  for (int p = 0; p < kPixels; ++p) {
    BITTERN_UNROLL
    for (int v = 0; v < kVectors; ++v) sums[p][v] = acc[p][v];
  }
}

template <int units>
void sum_tile(const RealPlan& plan, const float* const* x, const float* weights, Sums<units>& sums) {
  const i64 chain = plan.conv.chain;
  sum_chain<units>(plan, x, weights, 0, smaller(plan.products, chain), sums);
  for (i64 first = chain; first < plan.products; first += chain) {
    Sums<units> more;
    sum_chain<units>(plan, x, weights, first, smaller(plan.products, first + chain), more);
    for (int p = 0; p < kPixels; ++p) {
      for (int v = 0; v < units * kUnitVectors; ++v) sums[p][v] = add(sums[p][v], more[p][v]);
    }
  }
}

// What stands behind the sums.
template <int units>
void finish_tile(const RealPlan& plan, i64 channel, Sums<units>& sums) {
  constexpr int kVectors = units * kUnitVectors;
  if (plan.conv.affine != nullptr) {
    const float *alpha = plan.conv.affine + channel, *beta = alpha + plan.affine_row;
    for (int v = 0; v < kVectors; ++v) {
      const F32 a = load(alpha + v * kLanes), b = load(beta + v * kLanes);
      for (int p = 0; p < kPixels; ++p) sums[p][v] = multiply_add(sums[p][v], a, b);
    }
  }
  if (plan.conv.limits == nullptr) return;
  const F32 least = splat(plan.conv.limits[0]), most = splat(plan.conv.limits[1]);
  for (int p = 0; p < kPixels; ++p) {
    for (int v = 0; v < kVectors; ++v) {
      const F32 y = sums[p][v];
      sums[p][v] = select(greater(y, most), most, select(greater(least, y), least, y));
    }
  }
}

template <int units>
void store_tile(const RealPlan& plan, i64 first_pixel, i64 pixels, i64 channel, const Sums<units>& sums) {
  constexpr i64 kChannels = units * kRealUnit;
  const i64 out_channels = plan.conv.out_channels, left = smaller(kChannels, out_channels - channel);
  for (i64 p = 0; p < pixels; ++p) {
    float* out = plan.conv.out + (first_pixel + p) * out_channels + channel;
    float buffer[kChannels];
    float* to = left == kChannels ? out : buffer;
    for (int v = 0; v < units * kUnitVectors; ++v) store(to + v * kLanes, sums[p][v]);
    if (to == buffer) std::memcpy(out, buffer, static_cast<std::size_t>(left) * sizeof(float));
  }
}

// `count` pixels from `first` on, and output channels from `channel` on.
template <int units>
void convolve_channels(const RealPlan& plan, const float* const* x, i64 first, i64 count, i64 channel) {
  const float* weights = plan.conv.weights + channel * plan.products;
  for (i64 p = 0; p < count; p += kPixels) {
    Sums<units> sums;
    sum_tile<units>(plan, x + p, weights, sums);
    finish_tile<units>(plan, channel, sums);
    store_tile<units>(plan, first + p, smaller(kPixels, count - p), channel, sums);
  }
}

void find_pixels(const RealPlan& plan, i64 first, i64 count, const float** x) {
  const RealConv& c = plan.conv;
  i64 column = first % c.out_width, y = first / c.out_width % c.out_height,
      image = first / c.out_width / c.out_height;
  for (i64 i = 0; i < count; ++i) {
    x[i] = c.x + image * c.x_image + y * c.stride_h * c.x_row + column * c.stride_w * c.channels;
    if (++column < c.out_width) continue;
    column = 0;
    if (++y == c.out_height) y = 0, ++image;
  }
}

void conv_task(void* context, i64 index) {
  const auto& plan = *static_cast<const RealPlan*>(context);
  const i64 first = index / plan.parts * plan.task_pixels, part = index % plan.parts;
  const i64 count = smaller(plan.task_pixels, plan.pixels - first);
  // The last tile repeats the last pixel; what it sums there is not stored.
  const float** x = scratch_array<const float*>(Scratch::tap_rows, kTaskPixels + 2 * kPixels);
  find_pixels(plan, first, count, x);
  for (i64 i = 0; i < kPixels; ++i) x[count + i] = x[count - 1];
  i64 channel = part * plan.blocks / plan.parts * kBlockChannels;
  const i64 end = smaller(plan.conv.out_channels, (part + 1) * plan.blocks / plan.parts * kBlockChannels);
  for (; end - channel > kFewUnits * kRealUnit; channel += kBlockChannels) {
    convolve_channels<kMostUnits>(plan, x, first, count, channel);
  }
  for (; channel < end; channel += kFewUnits * kRealUnit) {
    convolve_channels<kFewUnits>(plan, x, first, count, channel);
  }
}

// How many tasks: pixels in equal stretches, and where those are few, parts of the output channels.
i64 plan_tasks(RealPlan& plan, int threads) {
  constexpr i64 kTasksPerThread = 2;
  const i64 stretches = ceil_div(plan.pixels, kTaskPixels),
            wanted = threads > 1 ? kTasksPerThread * threads : 1;
  plan.task_pixels = round_up(ceil_div(plan.pixels, stretches), kPixels);
  plan.blocks = ceil_div(plan.conv.out_channels, kBlockChannels);
  plan.parts = smaller(plan.blocks, ceil_div(wanted, stretches));
  return ceil_div(plan.pixels, plan.task_pixels) * plan.parts;
}

// What is not worth several threads gets one.
int worth(const RealConv& conv, int threads) {
  constexpr i64 kWorthThreads = i64{1} << 20;  // products
  const i64 products = conv.kernel_h * conv.kernel_w * conv.channels;
  const i64 outputs = conv.batch * conv.out_height * conv.out_width * conv.out_channels;
  return outputs * products < kWorthThreads ? 1 : threads;
}

void real_conv(const RealConv& conv, int threads) {
  RealPlan plan{};
  plan.pixels = conv.batch * conv.out_height * conv.out_width;
  if (plan.pixels == 0 || conv.out_channels == 0) return;
  threads = worth(conv, threads);
  plan.conv = laid_out(conv, threads);
  plan.affine_row = round_up(conv.out_channels, kUnitsTogether * kRealUnit);
  plan_offsets(plan);
  parallel_for(plan_tasks(plan, threads), threads, conv_task, &plan);
}

}  // namespace

const RealConvKernels real_conv_kernels = {real_conv, laid_out};
