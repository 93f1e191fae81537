// SPDX-License-Identifier: Apache-2.0

// real_conv against chains of fused multiply-adds written out, pool_images against windows and rows written
// out, and both in one against one after the other. mean_magnitude against its sums written out.

#include "binary_block/real_pool.h"
#include "mean_magnitude/kernel.h"
#include "pool_images/kernel.h"
#include "real_conv/kernel.h"

#include <cmath>

#include "harness.h"

namespace bittern::test {
namespace {

RealConv draw_conv(Random& random) {
  RealConv c{};
  c.batch = random.pick({0, 1, 1, 2});
  c.height = random.pick({1, 3, 7, 12, 17});
  c.width = random.pick({1, 4, 7, 15});
  c.channels = random.pick({1, 3, 5, 16});
  c.out_channels = random.pick({1, 7, 16, 17, 31, 32, 33, 64, 200});
  c.groups = random.pick({1, 1, 2, 3});
  c.channels *= c.groups, c.out_channels *= c.groups;
  c.kernel_h = random.pick({1, 2, 3}), c.kernel_w = random.pick({1, 3, 5});
  c.stride_h = random.pick({1, 1, 2}), c.stride_w = random.pick({1, 2, 3});
  c.pad_h = random.pick({0, 1, 2}), c.pad_w = random.pick({0, 0, 1, 3});
  c.dilation_h = random.pick({1, 1, 2}), c.dilation_w = random.pick({1, 1, 2});
  const auto extent = [](i64 size, i64 kernel, i64 stride, i64 pad, i64 dilation) {
    const i64 travel = size + 2 * pad - dilation * (kernel - 1) - 1;
    return travel < 0 ? i64{0} : travel / stride + 1;
  };
  c.out_height = extent(c.height, c.kernel_h, c.stride_h, c.pad_h, c.dilation_h);
  c.out_width = extent(c.width, c.kernel_w, c.stride_w, c.pad_w, c.dilation_w);
  c.channels_first = random.below(2);
  c.chain = random.pick({1, 2, 7, 128, 100000});
  c.in_turn = random.pick({0, 0, 1, 3, 40});
  return c;
}

// One output in the order that the call asks for. weights: [product, out_channel].
float naive_sum(const RealConv& c, const std::vector<float>& weights, i64 pixel, i64 o) {
  const i64 image = pixel / c.out_width / c.out_height, oy = pixel / c.out_width % c.out_height,
            ox = pixel % c.out_width, taps = c.kernel_h * c.kernel_w, channels = c.channels / c.groups,
            products = taps * channels, first = o / (c.out_channels / c.groups) * channels;
  const bool in_turn = o % (c.out_channels / c.groups) + c.in_turn >= c.out_channels / c.groups;
  volatile float total = 0, sum = 0, turns[2] = {0, 0};
  for (i64 i = 0; i < products; ++i) {
    const i64 tap = c.channels_first != 0 ? i % taps : i / channels;
    const i64 channel = first + (c.channels_first != 0 ? i / taps : i % channels);
    const i64 y = oy * c.stride_h - c.pad_h + tap / c.kernel_w * c.dilation_h;
    const i64 x = ox * c.stride_w - c.pad_w + tap % c.kernel_w * c.dilation_w;
    const bool inside = y >= 0 && x >= 0 && y < c.height && x < c.width;
    const float value =
        inside ? c.x[image * c.x_image + y * c.x_row + x * c.x_pixel + channel * c.x_channel] : 0;
    const float weight = weights[static_cast<std::size_t>(i * c.out_channels + o)];
    if (in_turn) {
      if (i == products - products % 2) turns[0] = turns[0] + turns[1], turns[1] = 0;
      volatile float product = value * weight;
      turns[i % 2] = turns[i % 2] + product;
      continue;
    }
    sum = std::fma(value, weight, sum);
    if ((i + 1) % c.chain != 0 && i + 1 != products) continue;
    total = i < c.chain ? sum : total + sum;
    sum = 0;
  }
  return in_turn ? turns[0] + turns[1] : total;
}

// As PreparedRealConv lays them out: units of 16 output channels, an even number of them for each group.
std::vector<float> laid_out(const RealConv& c, const std::vector<float>& weights) {
  const i64 products = c.kernel_h * c.kernel_w * c.channels / c.groups, outputs = c.out_channels / c.groups,
            padded = padded_outputs(outputs);
  std::vector<float> out(static_cast<std::size_t>(c.groups * padded * products), 0.0f);
  for (i64 o = 0; o < c.out_channels; ++o) {
    const i64 lane = o / outputs * padded + o % outputs;
    for (i64 i = 0; i < products; ++i) {
      const i64 at = (lane / kRealUnit * products + i) * kRealUnit + lane % kRealUnit;
      out[static_cast<std::size_t>(at)] = weights[static_cast<std::size_t>(i * c.out_channels + o)];
    }
  }
  return out;
}

void test_conv(RealConv c, Isa isa, Random& random, Results& results) {
  std::vector<float> x(static_cast<std::size_t>(c.batch * c.height * c.width * c.channels + 1));
  for (float& value : x) value = random.uniform();
  std::vector<float> weights(
      static_cast<std::size_t>(c.kernel_h * c.kernel_w * c.channels / c.groups * c.out_channels));
  for (float& value : weights) value = random.uniform();
  const std::vector<float> lanes = laid_out(c, weights);
  c.x = x.data();
  c.weights = lanes.data();
  const i64 row = affine_row(c.out_channels);
  std::vector<float> affine(static_cast<std::size_t>(2 * row)), limits{-0.5f, 0.75f};
  for (float& value : affine) value = random.uniform();
  if (random.below(2) != 0) c.affine = affine.data();
  if (random.below(2) != 0) c.limits = limits.data();
  if (c.batch > 0 && random.below(4) == 0) x[0] = NAN;
  for (bool channels_last : {true, false}) {
    c.x_channel = channels_last ? 1 : c.height * c.width;
    c.x_pixel = channels_last ? c.channels : 1;
    c.x_row = c.width * c.x_pixel;
    c.x_image = c.height * c.width * c.channels;
    for (int threads : {1, 3}) {
      const i64 count = c.batch * c.out_height * c.out_width * c.out_channels;
      Guarded<float> out(count);
      c.out = out.data();
      real_conv_kernels(isa).conv(c, threads);
      bool good = out.intact();
      for (i64 i = 0; i < count; ++i) {
        const i64 o = i % c.out_channels;
        float expected = naive_sum(c, weights, i / c.out_channels, o);
        if (c.affine != nullptr) expected = std::fma(expected, c.affine[o], c.affine[row + o]);
        if (c.limits != nullptr && expected < c.limits[0]) expected = c.limits[0];
        if (c.limits != nullptr && expected > c.limits[1]) expected = c.limits[1];
        good &= out[i] == expected || (std::isnan(out[i]) && std::isnan(expected));
      }
      results.record(good, std::string("real_conv ") + isa_name(isa) + " channels " +
                               std::to_string(c.channels) + " out " + std::to_string(c.out_channels) +
                               " groups " + std::to_string(c.groups) + " chain " + std::to_string(c.chain));
    }
  }
}

PoolImages draw_pool(Random& random) {
  PoolImages p{};
  p.batch = random.pick({0, 1, 2});
  p.height = random.pick({2, 5, 8}), p.width = random.pick({3, 4, 9});
  p.channels = random.pick({1, 3, 16, 33, 64});
  p.kernel_h = random.pick({1, 2, 3}), p.kernel_w = random.pick({2, 3});
  p.stride_h = random.pick({1, 2}), p.stride_w = random.pick({1, 2, 3});
  p.pad_h = p.kernel_h / 2, p.pad_w = random.below(2);
  p.average = random.below(2), p.count_padding = random.below(2);
  // rounded down, or up where the last window still starts inside
  const auto extent = [&](i64 size, i64 kernel, i64 stride, i64 pad) {
    const i64 room = larger(0, size + 2 * pad - kernel), whole = room / stride + 1;
    const bool more = random.below(2) != 0 && room % stride != 0 && whole * stride < size + pad;
    return whole + more;
  };
  p.out_height = extent(p.height, p.kernel_h, p.stride_h, p.pad_h);
  p.out_width = extent(p.width, p.kernel_w, p.stride_w, p.pad_w);
  return p;
}

float naive_window(const PoolImages& p, i64 pixel, i64 channel) {
  const i64 image = pixel / p.out_width / p.out_height, oy = pixel / p.out_width % p.out_height,
            ox = pixel % p.out_width;
  const i64 top = oy * p.stride_h - p.pad_h, left = ox * p.stride_w - p.pad_w;
  const i64 bottom = smaller(top + p.kernel_h, p.height + p.pad_h),
            right = smaller(left + p.kernel_w, p.width + p.pad_w);
  volatile float result = p.average != 0 ? 0.0f : -INFINITY;
  i64 inside = 0;
  for (i64 y = larger(top, 0); y < smaller(bottom, p.height); ++y) {
    for (i64 x = larger(left, 0); x < smaller(right, p.width); ++x, ++inside) {
      float value = p.x[((image * p.height + y) * p.width + x) * p.channels + channel];
      if (p.affine != nullptr) value = std::fma(value, p.affine[channel], p.affine[p.channels + channel]);
      if (p.average != 0) {
        result = result + value;
      } else if (value > result || std::isnan(value)) {
        result = value;
      }
    }
  }
  const i64 divisor = p.count_padding != 0 ? (bottom - top) * (right - left) : inside;
  return p.average != 0 ? result / static_cast<float>(divisor) : result;
}

void test_pool(PoolImages p, Isa isa, Random& random, Results& results) {
  std::vector<float> x(static_cast<std::size_t>(p.batch * p.height * p.width * p.channels + 1));
  for (float& value : x) value = random.uniform();
  if (p.batch > 0 && random.below(4) == 0) x[0] = NAN;
  std::vector<float> affine(static_cast<std::size_t>(2 * p.channels));
  for (float& value : affine) value = random.uniform();
  p.x = x.data();
  p.affine = random.below(2) != 0 ? affine.data() : nullptr;
  const i64 count = p.batch * p.out_height * p.out_width * p.channels;
  for (int threads : {1, 3}) {
    Guarded<float> out(count);
    p.out = out.data();
    pool_images_kernels(isa).pool(p, threads);
    bool good = out.intact();
    for (i64 i = 0; i < count; ++i) {
      const float expected = naive_window(p, i / p.channels, i % p.channels);
      good &= out[i] == expected || (std::isnan(expected) && std::isnan(out[i]));
    }
    results.record(good,
                   std::string("pool_images ") + isa_name(isa) + " channels " + std::to_string(p.channels));
  }
}

// An image of several bands (256 KB) is among them.
void test_both(Isa isa, Random& random, Results& results) {
  RealConv c = draw_conv(random);
  if (random.below(4) == 0) {
    c.batch = 1, c.height = 60, c.width = 50, c.channels = c.groups = 1, c.out_channels = 100;
    c.kernel_h = c.kernel_w = 1, c.stride_h = c.stride_w = c.dilation_h = c.dilation_w = 1;
    c.pad_h = random.below(2), c.pad_w = 0;
    c.out_height = c.height + 2 * c.pad_h, c.out_width = c.width;
  }
  std::vector<float> x(static_cast<std::size_t>(c.batch * c.height * c.width * c.channels + 1));
  for (float& value : x) value = random.uniform();
  std::vector<float> weights(static_cast<std::size_t>(c.kernel_h * c.kernel_w * c.channels *
                                                      padded_outputs(c.out_channels / c.groups)));
  for (float& value : weights) value = random.uniform();
  c.x = x.data(), c.weights = weights.data();
  c.x_channel = c.height * c.width, c.x_pixel = 1, c.x_row = c.width, c.x_image = c.channels * c.x_channel;
  PoolImages p = draw_pool(random);
  p.average = 0;
  p.batch = c.batch, p.height = c.out_height, p.width = c.out_width, p.channels = c.out_channels;
  const auto extent = [](i64 size, i64 kernel, i64 stride, i64 pad) {
    return size + 2 * pad < kernel ? i64{0} : (size + 2 * pad - kernel) / stride + 1;
  };
  p.out_height = extent(p.height, p.kernel_h, p.stride_h, p.pad_h);
  p.out_width = extent(p.width, p.kernel_w, p.stride_w, p.pad_w);
  Guarded<float> between(p.batch * p.height * p.width * p.channels);
  const i64 count = p.batch * p.out_height * p.out_width * p.channels;
  Guarded<float> expected(count);
  c.out = between.data(), p.x = between.data(), p.out = expected.data();
  real_conv_kernels(isa).conv(c, 1);
  pool_images_kernels(isa).pool(p, 1);
  c.out = nullptr, p.x = nullptr;
  for (int threads : {1, 3}) {
    Guarded<float> out(count);
    p.out = out.data();
    real_conv_pool(isa, c, p, threads);
    bool good = out.intact();
    for (i64 i = 0; i < count; ++i) good &= out[i] == expected[i];
    results.record(good, std::string("real_conv_pool ") + isa_name(isa) + " channels " +
                             std::to_string(c.out_channels) + " rows " + std::to_string(p.height));
  }
}

// The mean of one channel: numbers i, i + lanes, ... in four sums of which each starts anew after 16 numbers,
// then what fills no vector and the lanes one after another.
float naive_mean(const PoolImages& p, i64 image, i64 channel) {
  const i64 pixels = p.height * p.width, vectors = pixels / p.lanes, groups = vectors / 4;
  const auto at = [&](i64 i) { return p.x[(image * pixels + i) * p.channels + channel]; };
  volatile float total = 0;
  for (i64 i = vectors * p.lanes; i < pixels; ++i) total = total + at(i);
  for (i64 lane = 0; lane < p.lanes; ++lane) {
    volatile float sum = 0;
    for (i64 k = 0; k < 4; ++k) {
      volatile float now = 0, carried = 0;
      for (i64 g = 0; g < groups; ++g) {
        now = now + at((g * 4 + k) * p.lanes + lane);
        if (g % 16 == 15) carried = carried + now, now = 0;
      }
      now = now + carried;
      for (i64 i = groups * 4; k == 0 && i < vectors; ++i) now = now + at(i * p.lanes + lane);
      sum = k == 0 ? now : sum + now;
    }
    total = total + sum;
  }
  return total / static_cast<float>(pixels);
}

void test_mean(Isa isa, Random& random, Results& results) {
  PoolImages p{};
  p.batch = random.pick({0, 1, 3});
  p.height = random.pick({1, 7, 8, 30}), p.width = random.pick({1, 7, 14, 28});
  p.channels = random.pick({1, 3, 16, 31, 64});
  p.kernel_h = p.height, p.kernel_w = p.width;
  p.out_height = p.out_width = p.stride_h = p.stride_w = p.average = 1;
  p.lanes = random.pick({4, 8, 16});
  std::vector<float> x(static_cast<std::size_t>(p.batch * p.height * p.width * p.channels + 1));
  for (float& value : x) value = random.uniform();
  p.x = x.data();
  for (int threads : {1, 3}) {
    Guarded<float> out(p.batch * p.channels);
    p.out = out.data();
    pool_images_kernels(isa).pool(p, threads);
    bool good = out.intact();
    for (i64 i = 0; i < p.batch * p.channels; ++i) {
      good &= out[i] == naive_mean(p, i / p.channels, i % p.channels);
    }
    results.record(good, std::string("pool_images, whole, ") + isa_name(isa) + " lanes " +
                             std::to_string(p.lanes) + " channels " + std::to_string(p.channels));
  }
}

// Mean magnitude in sixteen sums, joined by halves.
template <class At>
float naive_magnitude(i64 count, At at) {
  float sums[16] = {};
  for (i64 i = 0; i < count; ++i) sums[i % 16] += std::fabs(at(i));
  for (i64 half = 8; half > 0; half /= 2) {
    for (i64 i = 0; i < half; ++i) sums[i] += sums[i + half];
  }
  return sums[0] / static_cast<float>(count);
}

InputScale draw_scale(Random& random) {
  InputScale s{};
  s.batch = random.pick({0, 1, 3});
  s.height = random.pick({1, 3, 8}), s.width = random.pick({1, 5, 16, 33});
  s.channels = random.pick({1, 2, 15, 16, 17, 64, 100});
  s.kernel_h = random.pick({1, 2, 3}), s.kernel_w = random.pick({1, 3, 5});
  s.stride_h = random.pick({1, 1, 2}), s.stride_w = random.pick({1, 2, 3});
  s.pad_h = random.pick({0, 1, 4}), s.pad_w = random.pick({0, 1, 3});
  s.dilation_h = random.pick({1, 1, 2}), s.dilation_w = random.pick({1, 1, 3});
  s.per_sample = random.below(4) == 0;
  const auto extent = [](i64 size, i64 kernel, i64 stride, i64 pad, i64 dilation) {
    const i64 travel = size + 2 * pad - dilation * (kernel - 1) - 1;
    return travel < 0 ? i64{0} : travel / stride + 1;
  };
  s.out_height = extent(s.height, s.kernel_h, s.stride_h, s.pad_h, s.dilation_h);
  s.out_width = extent(s.width, s.kernel_w, s.stride_w, s.pad_w, s.dilation_w);
  const i64 gap = random.below(2);  // behind each row
  if (random.below(2) != 0) {
    s.x_channel = 1, s.x_pixel = s.channels, s.x_row = s.width * s.channels + gap;
    s.x_image = s.height * s.x_row;
  } else {
    s.x_pixel = 1, s.x_row = s.width + gap, s.x_channel = s.height * s.x_row;
    s.x_image = s.channels * s.x_channel;
  }
  return s;
}

float naive_scale(const InputScale& s, const std::vector<float>& means, i64 output) {
  const i64 image = output / s.out_width / s.out_height;
  const float* from = means.data() + image * s.height * s.width;
  if (s.per_sample != 0) return naive_magnitude(s.height * s.width, [&](i64 i) { return from[i]; });
  const i64 top = output / s.out_width % s.out_height * s.stride_h - s.pad_h;
  const i64 left = output % s.out_width * s.stride_w - s.pad_w;
  float sum = 0;
  for (i64 i = 0; i < s.kernel_h; ++i) {
    for (i64 j = 0; j < s.kernel_w; ++j) {
      const i64 y = top + i * s.dilation_h, x = left + j * s.dilation_w;
      if (y >= 0 && y < s.height && x >= 0 && x < s.width) sum += from[y * s.width + x];
    }
  }
  return sum / static_cast<float>(s.kernel_h * s.kernel_w);
}

void test_scale(InputScale s, Isa isa, Random& random, Results& results) {
  std::vector<float> x(static_cast<std::size_t>(s.batch * s.x_image + 1));
  for (float& value : x) value = random.uniform() - 0.5f;
  s.x = x.data();
  const i64 pixels = s.batch * s.height * s.width, outputs = s.batch * s.out_height * s.out_width;
  std::vector<float> expected(static_cast<std::size_t>(pixels + 1));
  for (i64 p = 0; p < pixels; ++p) {
    const i64 row = p / s.width, image = row / s.height;
    const float* at = s.x + image * s.x_image + row % s.height * s.x_row + p % s.width * s.x_pixel;
    expected[static_cast<std::size_t>(p)] =
        naive_magnitude(s.channels, [&](i64 c) { return at[c * s.x_channel]; });
  }
  for (int threads : {1, 3}) {
    Guarded<float> means(pixels), out(outputs);
    s.means = means.data(), s.out = out.data();
    mean_magnitude_kernels(isa).input_scale(s, threads);
    bool good = means.intact() && out.intact();
    for (i64 i = 0; i < outputs; ++i) good &= out[i] == naive_scale(s, expected, i);
    results.record(good, std::string("mean_magnitude ") + isa_name(isa) + " channels " +
                             std::to_string(s.channels) + " width " + std::to_string(s.width));
  }
}

}  // namespace

void test_real(Isa isa, Results& results) {
  constexpr int kDrawn = 60;
  Random random(20261125);
  for (int i = 0; i < kDrawn; ++i) test_conv(draw_conv(random), isa, random, results);
  for (int i = 0; i < kDrawn; ++i) test_pool(draw_pool(random), isa, random, results);
  for (int i = 0; i < kDrawn; ++i) test_mean(isa, random, results);
  for (int i = 0; i < 2 * kDrawn; ++i) test_both(isa, random, results);
  for (int i = 0; i < 2 * kDrawn; ++i) test_scale(draw_scale(random), isa, random, results);
}

}  // namespace bittern::test
