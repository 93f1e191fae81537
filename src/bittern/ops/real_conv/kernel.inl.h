// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set, after its simd header, kPixels, and kMostUnits and
// kFewUnits: how many units of output channels a tile takes while a group has more than kFewUnits left, and
// at its end, where one unit or half of it may be enough.
//
// Every sum is a chain of fused multiply-adds per output, or a few, so the order of its products is all that
// decides its bits. A tile of kPixels pixels by some units of output channels stays in registers: each
// product loads the weights once and broadcasts one number per pixel. A padded image stands in for the tests
// of taps.

namespace {

constexpr int kUnitVectors = static_cast<int>(kRealUnit / kLanes);
constexpr int kHalfUnit = kUnitVectors > 1 ? kUnitVectors / 2 : 1;  // vectors
constexpr i64 kTaskPixels = 240;                                    // at most
constexpr i64 kBlockChannels = kMostUnits * kRealUnit;

struct RealPlan {
  RealConv conv;  // of padded images with channels last
  i64* offsets;   // of each product, from the first tap of a pixel
  i64 products, pixels;
  i64 group_channels, group_outputs, group_weights;  // group_weights: floats
  i64 task_pixels;                                   // a multiple of kPixels
  i64 group_blocks;                                  // blocks of output channels of a group
  i64 blocks, parts;  // of all groups; parts of them, each a task for the same pixels
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
  plan.products = taps * plan.group_channels;
  plan.offsets = scratch_array<i64>(Scratch::tap_offsets, plan.products);
  for (i64 i = 0; i < plan.products; ++i) {
    const i64 tap = c.channels_first != 0 ? i % taps : i / plan.group_channels;
    const i64 channel = c.channels_first != 0 ? i / taps : i % plan.group_channels;
    const i64 y = tap / c.kernel_w * c.dilation_h, x = tap % c.kernel_w * c.dilation_w;
    plan.offsets[i] = y * c.x_row + x * c.channels + channel;
  }
}

// ---- tiles

// Where a tile lies: `count` pixels from `first` on, by output channels from `channel` of all on.
struct Place {
  i64 first, count;
  i64 shift;  // floats from a pixel to the first channel of the group
  i64 channel, channels;
  i64 chained;  // so many of its first channels add one product after another
  const float* weights;
};

template <int vectors>
using Sums = F32[kPixels][vectors];

// Add products [first, end), or every `step`th of them, to sums; kFused: rounded with their sum alone. The
// weights of the next unit lie `products` rows further than those of one.
template <int kVectors, bool kFused>
void add_products(const RealPlan& plan, const float* const* x, const Place& place, i64 first, i64 end,
                  i64 step, Sums<kVectors>& sums) {
  const i64 unit = plan.products * kRealUnit;
  Sums<kVectors> acc;
  BITTERN_UNROLL
  for (int p = 0; p < kPixels; ++p) {
    BITTERN_UNROLL
    for (int v = 0; v < kVectors; ++v) acc[p][v] = sums[p][v];
  }
  for (i64 s = first; s < end; s += step) {
    const float* row = place.weights + s * kRealUnit;
    const i64 at = plan.offsets[s] + place.shift;
    F32 w[kVectors];
    BITTERN_UNROLL
    for (int v = 0; v < kVectors; ++v) w[v] = load(row + v / kUnitVectors * unit + v % kUnitVectors * kLanes);
    BITTERN_UNROLL
    for (int p = 0; p < kPixels; ++p) {
      const F32 value = splat(x[p][at]);
      BITTERN_UNROLL
      for (int v = 0; v < kVectors; ++v) {
        acc[p][v] = kFused ? multiply_add(value, w[v], acc[p][v]) : add(multiply(value, w[v]), acc[p][v]);
      }
    }
  }
  BITTERN_UNROLL
  for (int p = 0; p < kPixels; ++p) {
    BITTERN_UNROLL
    for (int v = 0; v < kVectors; ++v) sums[p][v] = acc[p][v];
  }
}

template <int kVectors>
void clear(Sums<kVectors>& sums) {
  BITTERN_UNROLL
  for (int p = 0; p < kPixels; ++p) {
    BITTERN_UNROLL
    for (int v = 0; v < kVectors; ++v) sums[p][v] = splat(0.0f);
  }
}

template <int kVectors>
void add_sums(const Sums<kVectors>& more, Sums<kVectors>& sums) {
  for (int p = 0; p < kPixels; ++p) {
    for (int v = 0; v < kVectors; ++v) sums[p][v] = add(sums[p][v], more[p][v]);
  }
}

// One product after another, in chains of so many.
template <int kVectors>
void sum_chained(const RealPlan& plan, const float* const* x, const Place& place, Sums<kVectors>& sums) {
  const i64 chain = plan.conv.chain;
  clear<kVectors>(sums);
  add_products<kVectors, true>(plan, x, place, 0, smaller(plan.products, chain), 1, sums);
  for (i64 first = chain; first < plan.products; first += chain) {
    Sums<kVectors> more;
    clear<kVectors>(more);
    add_products<kVectors, true>(plan, x, place, first, smaller(plan.products, first + chain), 1, more);
    add_sums<kVectors>(more, sums);
  }
}

// Even products and odd ones, each rounded, then the last of an odd number.
template <int kVectors>
void sum_in_turn(const RealPlan& plan, const float* const* x, const Place& place, Sums<kVectors>& sums) {
  const i64 even = plan.products - plan.products % 2;
  Sums<kVectors> odd;
  clear<kVectors>(sums);
  clear<kVectors>(odd);
  add_products<kVectors, false>(plan, x, place, 0, even, 2, sums);
  add_products<kVectors, false>(plan, x, place, 1, even, 2, odd);
  add_sums<kVectors>(odd, sums);
  add_products<kVectors, false>(plan, x, place, even, plan.products, 1, sums);
}

// What stands behind the sums.
template <int kVectors>
void finish_tile(const RealPlan& plan, i64 channel, Sums<kVectors>& sums) {
  if (plan.conv.affine != nullptr) {
    const float *alpha = plan.conv.affine + channel, *beta = alpha + affine_row(plan.conv.out_channels);
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

// Channels [first, end) of the tile.
template <int kVectors>
void store_tile(const RealPlan& plan, i64 first_pixel, i64 pixels, i64 channel, i64 first, i64 end,
                const Sums<kVectors>& sums) {
  constexpr i64 kChannels = kVectors * kLanes;
  for (i64 p = 0; p < pixels; ++p) {
    float* out = plan.conv.out + (first_pixel + p) * plan.conv.out_channels + channel;
    float buffer[kChannels];
    float* to = end - first == kChannels ? out : buffer;
    for (int v = 0; v < kVectors; ++v) store(to + v * kLanes, sums[p][v]);
    if (to != buffer) continue;
    std::memcpy(out + first, buffer + first, static_cast<std::size_t>(end - first) * sizeof(float));
  }
}

template <int kVectors>
void convolve_channels(const RealPlan& plan, const float* const* x, const Place& place) {
  for (i64 p = 0; p < place.count; p += kPixels) {
    const i64 first = place.first + p, pixels = smaller(kPixels, place.count - p);
    Sums<kVectors> sums;
    if (place.chained > 0) {
      sum_chained<kVectors>(plan, x + p, place, sums);
      finish_tile<kVectors>(plan, place.channel, sums);
      store_tile<kVectors>(plan, first, pixels, place.channel, 0, place.chained, sums);
    }
    if (place.chained == place.channels) continue;
    sum_in_turn<kVectors>(plan, x + p, place, sums);
    finish_tile<kVectors>(plan, place.channel, sums);
    store_tile<kVectors>(plan, first, pixels, place.channel, place.chained, place.channels, sums);
  }
}

// A block of output channels, by the narrowest tile that takes it whole.
void convolve_block(const RealPlan& plan, const float* const* x, i64 first, i64 count, i64 block) {
  const i64 group = block / plan.group_blocks, start = block % plan.group_blocks * kBlockChannels;
  const i64 channels = smaller(kBlockChannels, plan.group_outputs - start);
  const i64 chained = smaller(channels, larger(0, plan.group_outputs - plan.conv.in_turn - start));
  const Place place{first,
                    count,
                    group * plan.group_channels,
                    group * plan.group_outputs + start,
                    channels,
                    chained,
                    plan.conv.weights + group * plan.group_weights + start * plan.products};
  if (channels > kFewUnits * kRealUnit) {
    convolve_channels<kMostUnits * kUnitVectors>(plan, x, place);
  } else if (channels > kRealUnit) {
    convolve_channels<kFewUnits * kUnitVectors>(plan, x, place);
  } else if (channels > kHalfUnit * kLanes) {
    convolve_channels<kUnitVectors>(plan, x, place);
  } else {
    convolve_channels<kHalfUnit>(plan, x, place);
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
  const i64 end = (part + 1) * plan.blocks / plan.parts;
  for (i64 block = part * plan.blocks / plan.parts; block < end; ++block) {
    convolve_block(plan, x, first, count, block);
  }
}

// How many tasks: pixels in equal stretches, and where those are few, parts of the output channels.
i64 plan_tasks(RealPlan& plan, int threads) {
  constexpr i64 kTasksPerThread = 2;
  const i64 stretches = ceil_div(plan.pixels, kTaskPixels),
            wanted = threads > 1 ? kTasksPerThread * threads : 1;
  plan.task_pixels = round_up(ceil_div(plan.pixels, stretches), kPixels);
  plan.group_blocks = ceil_div(plan.group_outputs, kBlockChannels);
  plan.blocks = plan.conv.groups * plan.group_blocks;
  plan.parts = smaller(plan.blocks, ceil_div(wanted, stretches));
  return ceil_div(plan.pixels, plan.task_pixels) * plan.parts;
}

// What is not worth several threads gets one.
int worth(const RealConv& conv, int threads) {
  constexpr i64 kWorthThreads = i64{1} << 20;  // products
  const i64 products = conv.kernel_h * conv.kernel_w * conv.channels / conv.groups;
  const i64 outputs = conv.batch * conv.out_height * conv.out_width * conv.out_channels;
  return outputs * products < kWorthThreads ? 1 : threads;
}

void real_conv(const RealConv& conv, int threads) {
  RealPlan plan{};
  plan.pixels = conv.batch * conv.out_height * conv.out_width;
  if (plan.pixels == 0 || conv.out_channels == 0) return;
  threads = worth(conv, threads);
  plan.conv = laid_out(conv, threads);
  plan.group_channels = conv.channels / conv.groups;
  plan.group_outputs = conv.out_channels / conv.groups;
  plan_offsets(plan);
  plan.group_weights = padded_outputs(plan.group_outputs) * plan.products;
  parallel_for(plan_tasks(plan, threads), threads, conv_task, &plan);
}

}  // namespace

const RealConvKernels real_conv_kernels = {real_conv, laid_out};
