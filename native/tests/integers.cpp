// SPDX-License-Identifier: Apache-2.0

// integer_conv, integer_add, integer_mean, integer_pool and integer_quantize against sums and fixed-point
// numbers written out.

#include "integer_add/kernel.h"
#include "integer_conv/kernel.h"
#include "integer_mean/kernel.h"
#include "integer_pool/kernel.h"
#include "integer_quantize/kernel.h"

#include "integers.h"

namespace bittern::test {
namespace {

IntegerConv draw_conv(Random& random) {
  IntegerConv c{};
  c.batch = random.pick({0, 1, 2});
  c.height = random.pick({1, 3, 7, 12});
  c.width = random.pick({1, 4, 7, 15});
  c.channels = random.pick({1, 2, 3, 5, 8, 16, 24, 33, 65, 96, 128});
  c.groups = random.pick({1, 1, 2, 3});
  c.out_channels = random.pick({1, 7, 8, 9, 16, 17, 31, 33, 64}) * c.groups;
  c.channels *= c.groups;
  if (random.below(3) == 0) c.groups = c.out_channels = c.channels;
  c.kernel_h = random.pick({1, 2, 3}), c.kernel_w = random.pick({1, 3, 4});
  c.stride_h = random.pick({1, 1, 2}), c.stride_w = random.pick({1, 1, 2});
  c.dilation_h = random.pick({1, 1, 2}), c.dilation_w = random.pick({1, 1, 2});
  c.pad_top = random.pick({0, 1, 2}), c.pad_left = random.pick({0, 0, 1, 3});
  const auto extent = [](i64 size, i64 kernel, i64 stride, i64 pads, i64 dilation) {
    const i64 travel = size + pads - dilation * (kernel - 1) - 1;
    return travel < 0 ? i64{0} : travel / stride + 1;
  };
  c.out_height = extent(c.height, c.kernel_h, c.stride_h, c.pad_top + random.below(3), c.dilation_h);
  c.out_width = extent(c.width, c.kernel_w, c.stride_w, c.pad_left + random.below(3), c.dilation_w);
  c.zero = any_int8(random), c.out_zero = any_int8(random);
  c.low = random.pick({-128, -128, -3}), c.high = random.pick({127, 127, 90});
  c.ending = random.below(static_cast<i64>(IntegerEnding::count));
  c.weight_bits = is_depthwise(c) || random.below(3) != 0 ? 8 : 4;
  return c;
}

i64 naive_sum(const IntegerConv& c, const std::vector<i8>& w, i64 pixel, i64 o) {
  const i64 image = pixel / c.out_width / c.out_height, oy = pixel / c.out_width % c.out_height,
            ox = pixel % c.out_width, depth = c.channels / c.groups,
            first = o / (c.out_channels / c.groups) * depth;
  i64 sum = 0;
  for (i64 k = 0; k < depth; ++k) {
    for (i64 i = 0; i < c.kernel_h; ++i) {
      for (i64 j = 0; j < c.kernel_w; ++j) {
        const i64 y = oy * c.stride_h - c.pad_top + i * c.dilation_h,
                  x = ox * c.stride_w - c.pad_left + j * c.dilation_w;
        if (y < 0 || x < 0 || y >= c.height || x >= c.width) continue;
        const i64 number = c.x[((image * c.height + y) * c.width + x) * c.channels + first + k];
        sum += (number - c.zero) *
               w[static_cast<std::size_t>(((o * depth + k) * c.kernel_h + i) * c.kernel_w + j)];
      }
    }
  }
  return sum;
}

void test_conv(Isa isa, Results& results) {
  const IntegerConvKernels& kernels = integer_conv_kernels(isa);
  Random random(11);
  for (int number = 0; number < 120; ++number) {
    IntegerConv c = draw_conv(random);
    const i64 taps = c.kernel_h * c.kernel_w, pixels = c.batch * c.out_height * c.out_width;
    const auto x = draw(random, c.batch * c.height * c.width * c.channels);
    auto w = draw(random, c.out_channels * c.channels / c.groups * taps);
    if (c.weight_bits == 4) {
      for (i8& weight : w) weight = static_cast<i8>(weight >> 4);
    }
    std::vector<i32> given(static_cast<std::size_t>(3 * c.out_channels));
    const auto ending = static_cast<IntegerEnding>(c.ending);
    const bool once = ending == IntegerEnding::rounded_once || ending == IntegerEnding::rounded_once_any ||
                      ending == IntegerEnding::rounded_once_near;
    for (i64 o = 0; o < c.out_channels; ++o) {
      const auto at = static_cast<std::size_t>(o), all = static_cast<std::size_t>(c.out_channels);
      given[at] = static_cast<i32>(random.below(1 << 16) - (1 << 15));
      given[all + at] = static_cast<i32>((i64{1} << 30) + random.below(i64{1} << 30));
      given[2 * all + at] =
          static_cast<i32>(ending == IntegerEnding::rounded_twice ? random.pick({0, -1, -7, -9, -10, -31})
                           : ending == IntegerEnding::rounded_once_near ? random.pick({-11, -12, -15, -31})
                                                                        : random.pick({3, 0, -9}));
    }
    Guarded<u8> weights(kernels.prepared_bytes(c));
    Guarded<i32> rows(kIntegerRows * integer_outputs(c));
    Guarded<i8> out(pixels * c.out_channels);
    kernels.prepare(c, w.data(), given.data(), weights.data(), rows.data());
    c.x = x.data(), c.weights = weights.data(), c.rows = rows.data(), c.out = out.data();
    kernels.conv(c, 2);
    bool good = weights.intact() && rows.intact() && out.intact();
    for (i64 i = 0; i < pixels * c.out_channels && good; ++i) {
      const i64 o = i % c.out_channels;
      const auto at = static_cast<std::size_t>(o), all = static_cast<std::size_t>(c.out_channels);
      const i64 sum = naive_sum(c, w, i / c.out_channels, o) + given[at];
      const i64 y = (once ? scaled_once : scaled)(sum, given[all + at], given[2 * all + at]) + c.out_zero;
      good = out[i] == std::min(std::max(y, c.low), c.high);
    }
    results.record(good, std::string("integer_conv ") + isa_name(isa) + " " + std::to_string(number) +
                             " channels " + std::to_string(c.channels) + " to " +
                             std::to_string(c.out_channels) + " groups " + std::to_string(c.groups) +
                             " ending " + std::to_string(c.ending));
  }
}

void test_add(Isa isa, Results& results) {
  Random random(12);
  for (i64 count : {0, 1, 15, 16, 17, 300, 40000}) {
    for (bool large : {false, true}) {
      const auto x = draw(random, count), residual = draw(random, count);
      Guarded<i8> out(count);
      IntegerAdd s{};
      s.count = count, s.zero_a = -128, s.zero_b = 4, s.out_zero = any_int8(random), s.low = -100,
      s.high = 127;
      s.a_multiplier = 1623821475, s.a_shift = -2, s.b_multiplier = 1 << 30, s.b_shift = 0;
      s.multiplier = 1098017566, s.shift = large ? 1 : -17;
      s.x = x.data(), s.residual = residual.data(), s.out = out.data();
      integer_add_kernels(isa).add(s, 2);
      bool good = out.intact();
      for (i64 i = 0; i < count && good; ++i) {
        const auto at = static_cast<std::size_t>(i);
        const i64 a = scaled((x[at] - s.zero_a) * (1 << 20), s.a_multiplier, s.a_shift),
                  b = scaled((residual[at] - s.zero_b) * (1 << 20), s.b_multiplier, s.b_shift);
        const i64 y = scaled(a + b, s.multiplier, s.shift) + s.out_zero;
        good = out[i] == std::min(std::max(y, s.low), s.high);
      }
      results.record(good, std::string("integer_add ") + isa_name(isa) + " " + std::to_string(count));
    }
  }
}

void test_mean(Isa isa, Results& results) {
  Random random(14);
  for (int number = 0; number < 12; ++number) {
    IntegerMean m{};
    m.batch = 2, m.pixels = random.pick({1, 49, 600}), m.channels = random.pick({1, 64, 70});
    m.zero = any_int8(random), m.out_zero = any_int8(random), m.low = -120, m.high = 127;
    m.multiplier = (i64{1} << 30) + random.below(i64{1} << 30), m.shift = random.pick({2, 0, -6, -9});
    const auto x = draw(random, m.batch * m.pixels * m.channels);
    Guarded<i8> out(m.batch * m.channels);
    m.x = x.data(), m.out = out.data();
    integer_mean_kernels(isa).mean(m, 2);
    bool good = out.intact();
    for (i64 i = 0; i < m.batch * m.channels && good; ++i) {
      i64 sum = 0;
      for (i64 p = 0; p < m.pixels; ++p)
        sum += m.x[(i / m.channels * m.pixels + p) * m.channels + i % m.channels] - m.zero;
      const i64 y = scaled(sum, m.multiplier, m.shift) + m.out_zero;
      good = out[i] == std::min(std::max(y, m.low), m.high);
    }
    results.record(good, std::string("integer_mean ") + isa_name(isa) + " " + std::to_string(number));
  }
}

void test_quantize(Isa isa, Results& results) {
  Random random(15);
  for (int number = 0; number < 12; ++number) {
    IntegerQuantize q{};
    q.batch = 2, q.height = 3, q.width = random.pick({1, 64, 70}), q.channels = random.pick({1, 3, 5});
    const bool planar = number % 2 == 0;
    q.x_pixel = planar ? 1 : q.channels, q.x_channel = planar ? q.height * q.width : 1;
    q.x_row = planar ? q.width : q.width * q.channels, q.x_image = q.height * q.width * q.channels;
    q.zero = any_int8(random);
    const float scale = 0.25f;
    std::vector<float> x(static_cast<std::size_t>(q.batch * q.x_image));
    for (float& value : x) value = static_cast<float>(random.below(2000) - 1000) / 16.0f;
    Guarded<i8> out(q.batch * q.x_image);
    q.x = x.data(), q.scale = &scale, q.out = out.data();
    integer_quantize_kernels(isa).quantize(q, 2);
    bool good = out.intact();
    for (i64 i = 0; i < q.batch * q.x_image && good; ++i) {
      const i64 channel = i % q.channels, pixel = i / q.channels, image = pixel / (q.height * q.width),
                inside = pixel % (q.height * q.width);
      const i64 at = image * q.x_image + inside / q.width * q.x_row + inside % q.width * q.x_pixel +
                     channel * q.x_channel;
      const i64 sixteenths = static_cast<i64>(x[static_cast<std::size_t>(at)] * 16.0f),
                rounded = (std::abs(sixteenths) + 2) / 4, y = (sixteenths < 0 ? -rounded : rounded) + q.zero;
      good = out[i] == std::min<i64>(std::max<i64>(y, -128), 127);
    }
    results.record(good, std::string("integer_quantize ") + isa_name(isa) + " " + std::to_string(number));
  }
}

void test_pool(Isa isa, Results& results) {
  Random random(13);
  for (int number = 0; number < 20; ++number) {
    IntegerPool p{};
    p.batch = 2, p.height = random.pick({1, 5, 8}), p.width = random.pick({3, 6});
    p.channels = random.pick({1, 16, 70}), p.average = number % 2, p.low = -120, p.high = 110;
    p.kernel_h = random.pick({1, 2, 3}), p.kernel_w = random.pick({2, 3});
    p.stride_h = random.pick({1, 2}), p.stride_w = random.pick({1, 3});
    p.pad_top = random.below(p.kernel_h), p.pad_left = random.below(p.kernel_w);
    p.out_height = (p.height - 1 + p.pad_top) / p.stride_h + 1,
    p.out_width = (p.width - 1 + p.pad_left) / p.stride_w + 1;
    const auto x = draw(random, p.batch * p.height * p.width * p.channels);
    Guarded<i8> out(p.batch * p.out_height * p.out_width * p.channels);
    p.x = x.data(), p.out = out.data();
    integer_pool_kernels(isa).pool(p, 2);
    bool good = out.intact();
    for (i64 i = 0; i < p.batch * p.out_height * p.out_width * p.channels && good; ++i) {
      const i64 channel = i % p.channels, ox = i / p.channels % p.out_width,
                oy = i / p.channels / p.out_width % p.out_height,
                image = i / p.channels / p.out_width / p.out_height;
      i64 sum = 0, most = -128, inside = 0;
      for (i64 y = oy * p.stride_h - p.pad_top; y < oy * p.stride_h - p.pad_top + p.kernel_h; ++y) {
        for (i64 column = ox * p.stride_w - p.pad_left; column < ox * p.stride_w - p.pad_left + p.kernel_w;
             ++column) {
          if (y < 0 || column < 0 || y >= p.height || column >= p.width) continue;
          const i64 value = p.x[((image * p.height + y) * p.width + column) * p.channels + channel];
          sum += value, most = std::max(most, value), ++inside;
        }
      }
      const i64 magnitude = (2 * std::abs(sum) + inside) / (2 * inside),
                mean = sum < 0 ? -magnitude : magnitude;
      good = out[i] == std::min(std::max(p.average != 0 ? mean : most, p.low), p.high);
    }
    results.record(good, std::string("integer_pool ") + isa_name(isa) + " " + std::to_string(number));
  }
}

}  // namespace

void test_integers(Isa isa, Results& results) {
  test_conv(isa, results);
  test_add(isa, results);
  test_mean(isa, results);
  test_quantize(isa, results);
  test_pool(isa, results);
  test_recurrent(isa, results);
}

}  // namespace bittern::test
