// SPDX-License-Identifier: Apache-2.0

// Binary convolutions to test: shapes, named and drawn, random signs, and the sums of products written out.
#pragma once

#include <algorithm>
#include <vector>

#include "binary_conv2d/kernel.h"

#include "harness.h"

namespace bittern::test {

// [rows, cols] of -1 and +1.
struct Signs {
  i64 rows, cols;
  std::vector<i32> values;

  Signs(Random& random, i64 rows, i64 cols)
      : rows(rows), cols(cols), values(static_cast<std::size_t>(rows * cols)) {
    for (i32& x : values) x = random.below(2) != 0 ? 1 : -1;
  }
  i32 at(i64 row, i64 col) const { return values[static_cast<std::size_t>(row * cols + col)]; }
  std::vector<u64> packed() const {
    const i64 pitch = ceil_div(cols, kWordBits);
    std::vector<u64> words(static_cast<std::size_t>(rows * pitch), 0);
    for (i64 r = 0; r < rows; ++r) {
      for (i64 c = 0; c < cols; ++c) {
        words[static_cast<std::size_t>(r * pitch + c / kWordBits)] |= static_cast<u64>(at(r, c) > 0)
                                                                      << (c % kWordBits);
      }
    }
    return words;
  }
};

struct Case {
  Conv2d conv;
  i64 out_h, out_w;

  i64 taps() const { return conv.kernel_h * conv.kernel_w; }
  i64 group_channels() const { return conv.channels / conv.groups; }
  i64 outputs() const { return conv.batch * out_h * out_w * conv.out_channels; }
};

inline Case make_case(const Conv2d& conv) {
  const auto extent = [](i64 size, i64 kernel, i64 stride, i64 pad, i64 dilation) {
    const i64 travel = size + 2 * pad - dilation * (kernel - 1) - 1;
    return travel < 0 ? i64{0} : travel / stride + 1;
  };
  return {conv, extent(conv.height, conv.kernel_h, conv.stride_h, conv.pad_h, conv.dilation_h),
          extent(conv.width, conv.kernel_w, conv.stride_w, conv.pad_w, conv.dilation_w)};
}

inline Case draw_case(Random& random) {
  Conv2d c{};
  c.groups = random.pick({1, 1, 1, 2, 3});
  c.channels = c.groups * random.pick({1, 3, 7, 16, 32, 60, 63, 64, 65, 100, 128, 129, 192, 257});
  c.out_channels = c.groups * random.pick({1, 5, 8, 15, 16, 17, 31, 32, 33, 63, 64, 65, 96, 127, 128, 130});
  c.batch = random.pick({1, 1, 2, 3});
  c.height = random.pick({1, 4, 7, 9, 14});
  c.width = random.pick({1, 5, 7, 8, 13});
  c.kernel_h = random.pick({1, 2, 3, 3, 5});
  c.kernel_w = random.pick({1, 3, 3, 3, 4});
  c.stride_h = random.pick({1, 1, 2, 3});
  c.stride_w = random.pick({1, 1, 2, 3});
  c.dilation_h = random.pick({1, 1, 2});
  c.dilation_w = random.pick({1, 1, 2});
  c.pad_h = random.pick({0, 1, 1, 2, 3});
  c.pad_w = random.pick({0, 1, 1, 2, 3});
  c.pad_value = random.pick({-1, 0, 0, 1});
  return make_case(c);
}

// Depthwise.
inline Case draw_depthwise(Random& random) {
  Conv2d c = draw_case(random).conv;
  c.groups = c.channels = c.out_channels = random.pick({2, 7, 63, 64, 65, 100, 144, 192, 255, 257, 384});
  c.kernel_h = random.pick({1, 2, 3, 3, 3, 5, 7});
  c.kernel_w = random.pick({1, 3, 3, 3, 4, 5, 7});
  if (random.below(2) != 0) c.kernel_h = c.kernel_w = 3;
  c.width = random.pick({1, 2, 5, 8, 13, 40});
  return make_case(c);
}

// Small groups: most are powers of two, with as many outputs as inputs or more.
inline Case draw_grouped(Random& random) {
  Conv2d c = draw_case(random).conv;
  c.groups = random.pick({2, 3, 8, 16, 17});
  c.channels = c.groups * random.pick({1, 2, 4, 8, 8, 16, 16, 32, 12, 24});
  c.out_channels = c.groups * random.pick({1, 2, 4, 8, 16, 16, 32, 64, 12, 128});
  if (random.below(2) != 0) c.out_channels = c.channels;
  if (random.below(2) != 0) c.kernel_h = c.kernel_w = 3;
  return make_case(c);
}

// Few channels under several taps: a lane is a pixel.
inline Case draw_few_channels(Random& random) {
  Conv2d c = draw_case(random).conv;
  c.groups = 1;
  c.channels = random.pick({1, 3, 4, 5, 8, 16, 16, 17, 31, 32, 32, 33, 48, 64, 65, 100, 111, 112, 113});
  c.out_channels = random.pick({1, 2, 3, 15, 16, 17, 32, 33, 64});
  c.width = random.pick({1, 2, 7, 8, 15, 16, 17, 31, 32, 33, 70});
  c.height = random.pick({1, 3, 8, 9, 33});
  if (random.below(2) != 0) c.kernel_h = c.kernel_w = 3;
  return make_case(c);
}

// The value that a tap of one output pixel sees.
inline i32 input_at(const Case& k, const Signs& x, i64 image, i64 row, i64 col, i64 channel) {
  const Conv2d& c = k.conv;
  if (row < 0 || col < 0 || row >= c.height || col >= c.width) return static_cast<i32>(c.pad_value);
  return x.at((image * c.height + row) * c.width + col, channel);
}

// Accumulators [batch, out_h, out_w, out_channels]. w: rows [out_channels * taps], columns channels of a
// group.
inline std::vector<i32> naive(const Case& k, const Signs& x, const Signs& w) {
  const Conv2d& c = k.conv;
  std::vector<i32> out;
  for (i64 pixel = 0; pixel < c.batch * k.out_h * k.out_w; ++pixel) {
    const i64 image = pixel / k.out_w / k.out_h, oy = pixel / k.out_w % k.out_h, ox = pixel % k.out_w;
    for (i64 o = 0; o < c.out_channels; ++o) {
      const i64 first = o / (c.out_channels / c.groups) * k.group_channels();
      i32 sum = 0;
      for (i64 tap = 0; tap < k.taps(); ++tap) {
        const i64 row = oy * c.stride_h - c.pad_h + tap / c.kernel_w * c.dilation_h;
        const i64 col = ox * c.stride_w - c.pad_w + tap % c.kernel_w * c.dilation_w;
        for (i64 i = 0; i < k.group_channels(); ++i) {
          sum += input_at(k, x, image, row, col, first + i) * w.at(o * k.taps() + tap, i);
        }
      }
      out.push_back(sum);
    }
  }
  return out;
}

inline std::string describe(const Case& k, Isa isa, int threads, bool epilogue) {
  const Conv2d& c = k.conv;
  std::string text = std::string("binary_conv2d ") + isa_name(isa);
  const std::pair<const char*, i64> fields[] = {
      {"batch", c.batch},       {"h", c.height},          {"w", c.width},
      {"channels", c.channels}, {"out", c.out_channels},  {"kh", c.kernel_h},
      {"kw", c.kernel_w},       {"stride_h", c.stride_h}, {"stride_w", c.stride_w},
      {"pad_h", c.pad_h},       {"pad_w", c.pad_w},       {"dil_h", c.dilation_h},
      {"dil_w", c.dilation_w},  {"groups", c.groups},     {"pad_value", c.pad_value},
      {"threads", threads},     {"epilogue", epilogue}};
  for (const auto& [name, value] : fields) text += std::string(" ") + name + " " + std::to_string(value);
  return text;
}

// batch, height, width, channels, out_channels, kernel 2, stride 2, pad 2, dilation 2, groups, pad_value
constexpr i64 kNamedCases[][15] = {
    {0, 4, 4, 8, 8, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0},      // nothing in
    {1, 2, 2, 8, 8, 3, 3, 1, 1, 0, 0, 1, 1, 1, 0},      // kernel larger than the image: nothing out
    {1, 1, 1, 65, 33, 7, 7, 1, 1, 3, 3, 1, 1, 1, 0},    // one pixel, all taps but one outside
    {1, 14, 14, 64, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0},  // ResNet
    {1, 4, 30, 180, 20, 1, 3, 1, 1, 0, 1, 1, 1, 1, 0},  // 69 bytes under the taps, the last word has 7
    {2, 7, 7, 256, 160, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0},
    {1, 8, 8, 16, 16, 3, 3, 1, 1, 1, 1, 1, 1, 16, 0},     // depthwise
    {1, 1, 61, 4096, 130, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0},  // a matrix product
    {1, 1, 3, 70000, 35, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0},   // counts beyond 16 bits
    {1, 3, 3, 9000, 5, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0},
    // channels that fill words and units of output channels, with every way to walk over them
    {2, 9, 7, 64, 32, 3, 3, 1, 1, 1, 1, 1, 1, 1, -1},
    {2, 13, 14, 128, 64, 3, 3, 2, 2, 1, 1, 1, 1, 1, 0},
    {1, 15, 12, 64, 96, 3, 2, 2, 1, 2, 1, 2, 1, 1, 1},
    {1, 20, 19, 64, 32, 5, 3, 3, 2, 3, 2, 1, 3, 1, 0},
    {1, 14, 13, 128, 64, 1, 1, 2, 2, 0, 0, 1, 1, 1, 0},
    {1, 12, 11, 192, 96, 3, 3, 1, 1, 1, 1, 1, 1, 3, 0},
    {1, 1, 1001, 64, 32, 1, 3, 1, 2, 0, 2, 1, 1, 1, 0},   // rows longer than a task
    {1, 1, 40, 16384, 32, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0},  // one pixel is large
    // few channels
    {1, 32, 32, 16, 16, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0},  // ResNet-20
    {1, 32, 32, 16, 32, 3, 3, 2, 2, 1, 1, 1, 1, 1, 0},
    {2, 8, 8, 64, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0},
    {1, 5, 6, 112, 3, 3, 3, 1, 1, 1, 1, 1, 1, 1, 1},     // the most nibbles of 3x3
    {1, 3, 2000, 5, 18, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0},   // rows longer than a band
    {1, 9, 90, 3, 2, 4, 63, 1, 1, 1, 40, 1, 1, 1, 0},    // the most taps
    {1, 12, 90, 3, 2, 11, 23, 1, 1, 3, 11, 1, 1, 1, 0},  // and one more
    {1, 3, 4, 16, 5, 3, 2, 1, 1, 70, 66, 1, 1, 1, 0},    // padding too wide for planes
    {1, 200, 3, 16, 5, 3, 3, 65, 1, 1, 1, 1, 1, 1, 0},   // and a stride
    {1, 140, 3, 16, 5, 3, 3, 1, 1, 0, 1, 65, 1, 1, 0},   // and a kernel
    {1, 64, 2, 64, 5, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0},     // as many pixels as count as few
    {1, 65, 2, 64, 5, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0},
    {1, 0, 0, 16, 16, 3, 3, 1, 1, 2, 2, 1, 1, 1, 0},   // nothing but padding
    {1, 2, 40, 16, 16, 3, 3, 3, 4, 5, 9, 2, 3, 1, 0},  // pixels without a tap inside
    // depthwise
    {2, 9, 10, 144, 144, 3, 3, 1, 1, 1, 1, 1, 1, 144, 0},
    {1, 12, 13, 65, 65, 3, 3, 2, 2, 1, 1, 1, 1, 65, 0},
    {1, 3, 2, 960, 960, 3, 3, 1, 1, 1, 1, 1, 1, 960, 0},
    {1, 4, 5, 100, 100, 7, 7, 1, 1, 3, 3, 1, 1, 100, 0},  // a kernel wider than the image
    {3, 7, 30, 7, 7, 5, 5, 1, 2, 2, 2, 1, 2, 7, -1},
    {1, 9, 31, 64, 64, 9, 9, 1, 1, 4, 4, 1, 1, 64, 1},
    {1, 1, 300, 32, 32, 1, 126, 1, 3, 0, 60, 1, 1, 32, 0},  // the most taps
    {1, 1, 300, 32, 32, 1, 127, 1, 3, 0, 60, 1, 1, 32, 0},  // and one more
    {1, 3, 4, 63, 63, 2, 2, 1, 1, 7, 9, 1, 1, 63, 0},       // pixels without a tap inside
    {1, 0, 0, 64, 64, 3, 3, 1, 1, 2, 2, 1, 1, 64, 0},       // nothing but padding
    {1, 5, 40, 64, 64, 1, 1, 1, 2, 0, 0, 1, 1, 64, 0},
    {1, 6, 5, 64, 128, 3, 3, 1, 1, 1, 1, 1, 1, 64, 0},  // two outputs a channel
    // small groups
    {2, 9, 10, 128, 128, 3, 3, 1, 1, 1, 1, 1, 1, 32, 0},
    {1, 12, 13, 128, 128, 3, 3, 2, 2, 1, 1, 1, 1, 16, 0},
    {1, 5, 6, 272, 272, 3, 3, 1, 1, 1, 1, 1, 1, 17, 1},
    {1, 7, 7, 96, 192, 3, 3, 1, 1, 2, 2, 2, 1, 6, -1},
    {1, 7, 9, 96, 96, 3, 3, 1, 1, 1, 1, 1, 1, 3, 0},  // two counts a channel
    {1, 7, 9, 96, 96, 5, 5, 1, 1, 2, 2, 1, 1, 3, 0},  // four
    {1, 7, 9, 96, 96, 5, 5, 1, 1, 2, 2, 1, 1, 6, 0},
    {1, 1, 70, 64, 64, 1, 31, 1, 1, 0, 15, 1, 1, 8, 0},  // the most taps
    {1, 1, 70, 64, 64, 1, 32, 1, 1, 0, 15, 1, 1, 8, 0},  // and one more
    {1, 3, 4, 32, 2048, 3, 3, 1, 1, 1, 1, 1, 1, 32, 0},  // one channel, 64 outputs
};

inline Case named_case(const i64 (&v)[15]) {
  Conv2d c{};
  c.batch = v[0], c.height = v[1], c.width = v[2], c.channels = v[3], c.out_channels = v[4];
  c.kernel_h = v[5], c.kernel_w = v[6], c.stride_h = v[7], c.stride_w = v[8], c.pad_h = v[9], c.pad_w = v[10];
  c.dilation_h = v[11], c.dilation_w = v[12], c.groups = v[13], c.pad_value = v[14];
  return make_case(c);
}

}  // namespace bittern::test
