// SPDX-License-Identifier: Apache-2.0

// binary_conv2d against the sum of products written out, over shapes drawn from the awkward ones.

#include "binary_conv2d/kernel.h"

#include <cmath>

#include "harness.h"

namespace bittern::test {
namespace {

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

Case make_case(const Conv2d& conv) {
  const auto extent = [](i64 size, i64 kernel, i64 stride, i64 pad, i64 dilation) {
    const i64 travel = size + 2 * pad - dilation * (kernel - 1) - 1;
    return travel < 0 ? i64{0} : travel / stride + 1;
  };
  return {conv, extent(conv.height, conv.kernel_h, conv.stride_h, conv.pad_h, conv.dilation_h),
          extent(conv.width, conv.kernel_w, conv.stride_w, conv.pad_w, conv.dilation_w)};
}

Case draw_case(Random& random) {
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

// The value that a tap of one output pixel sees.
i32 input_at(const Case& k, const Signs& x, i64 image, i64 row, i64 col, i64 channel) {
  const Conv2d& c = k.conv;
  if (row < 0 || col < 0 || row >= c.height || col >= c.width) return static_cast<i32>(c.pad_value);
  return x.at((image * c.height + row) * c.width + col, channel);
}

// Accumulators [batch, out_h, out_w, out_channels]. w: rows [out_channels * taps], columns channels of a
// group.
std::vector<i32> naive(const Case& k, const Signs& x, const Signs& w) {
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

float with_epilogue(const std::vector<float>& rows, i64 out_channels, i64 o, i32 sum) {
  const auto row = [&](i64 i) { return rows[static_cast<std::size_t>(i * out_channels + o)]; };
  volatile float y = static_cast<float>(sum) + row(0);  // volatile: every operation rounds
  y = y * row(1);
  return std::fma(y, row(2), row(3));
}

std::string describe(const Case& k, Isa isa, int threads, bool epilogue) {
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

bool run_ints(Conv2d conv, Isa isa, int threads, const std::vector<i32>& expected) {
  Guarded<i32> out(static_cast<i64>(expected.size()));
  conv.output = out.data();
  binary_conv2d_kernels(isa).conv2d(conv, threads);
  bool good = out.intact();
  for (std::size_t i = 0; i < expected.size(); ++i) good &= out[static_cast<i64>(i)] == expected[i];
  return good;
}

bool run_floats(Conv2d conv, Isa isa, int threads, const std::vector<i32>& sums,
                const std::vector<float>& epilogue) {
  Guarded<float> out(static_cast<i64>(sums.size()));
  conv.output = out.data();
  conv.epilogue = epilogue.data();
  binary_conv2d_kernels(isa).conv2d(conv, threads);
  bool good = out.intact();
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const i64 index = static_cast<i64>(i);
    good &= out[index] == with_epilogue(epilogue, conv.out_channels, index % conv.out_channels, sums[i]);
  }
  return good;
}

// A tail drawn at random, and what it reads.
struct TailCase {
  Tail tail{};
  std::vector<float> rows, residual, factor;

  float row(i64 index, i64 o) const { return rows[static_cast<std::size_t>(index * tail.pitch + o)]; }
};

TailCase draw_tail(const Case& k, Random& random) {
  TailCase drawn;
  Tail& t = drawn.tail;
  t.activation = random.below(static_cast<i64>(Activation::count));
  t.residual_last = random.below(2);
  t.pitch = round_up(k.conv.out_channels, kTailUnit) + kTailUnit;
  drawn.rows.resize(static_cast<std::size_t>(kTailRows * t.pitch));
  for (float& value : drawn.rows) value = random.uniform();
  if (random.below(3) == 0) {
    drawn.factor.resize(static_cast<std::size_t>(larger(1, k.out_h * k.out_w) * t.pitch));
    for (float& value : drawn.factor) value = random.uniform();
  }
  if (random.below(4) == 0) return drawn;
  t.residual_pool = random.pick({1, 1, 2, 3});
  t.residual_height = larger(1, k.out_h * t.residual_pool - random.below(t.residual_pool));
  t.residual_width = larger(1, k.out_w * t.residual_pool - random.below(t.residual_pool));
  t.residual_repeats = random.below(2);
  t.residual_affine = random.below(2);
  t.residual_channels = t.residual_repeats != 0
                            ? random.pick({k.conv.out_channels, ceil_div(k.conv.out_channels, 2)})
                            : k.conv.out_channels;
  if (t.residual_repeats == 0) t.residual_shift = random.pick({0, 0, 1, 16, -3});
  const i64 size = k.conv.batch * t.residual_height * t.residual_width * t.residual_channels;
  drawn.residual.resize(static_cast<std::size_t>(size + 1));
  for (float& value : drawn.residual) value = random.uniform();
  return drawn;
}

float residual_at(const TailCase& drawn, const Case& k, i64 pixel, i64 o) {
  const Tail& t = drawn.tail;
  const auto mapped = [&](float r) {
    return t.residual_affine == 0 ? r
                                  : std::fma(r, drawn.row(kResidualAlpha, o), drawn.row(kResidualBeta, o));
  };
  i64 channel = o - t.residual_shift;
  if (t.residual_repeats != 0) channel %= t.residual_channels;
  if (channel < 0 || channel >= t.residual_channels) return mapped(0);
  const i64 image = pixel / k.out_w / k.out_h, oy = pixel / k.out_w % k.out_h, ox = pixel % k.out_w;
  volatile float sum = 0;
  int count = 0;
  for (i64 y = oy * t.residual_pool; y < smaller((oy + 1) * t.residual_pool, t.residual_height); ++y) {
    for (i64 x = ox * t.residual_pool; x < smaller((ox + 1) * t.residual_pool, t.residual_width);
         ++x, ++count) {
      const i64 at = ((image * t.residual_height + y) * t.residual_width + x) * t.residual_channels + channel;
      sum = sum + drawn.residual[static_cast<std::size_t>(at)];
    }
  }
  return mapped(sum / static_cast<float>(count));
}

float activated(const TailCase& drawn, i64 o, float y) {
  const float first = drawn.row(kFirst, o), second = drawn.row(kSecond, o), third = drawn.row(kThird, o);
  volatile float t = y;
  switch (static_cast<Activation>(drawn.tail.activation)) {
    case Activation::relu:
      return y > 0 ? y : 0;
    case Activation::hardtanh:
      t = y < first ? first : y;
      return t > second ? second : t;
    case Activation::prelu:
      return y > 0 ? y : first * y;
    case Activation::rprelu:
      t = y - first;
      if (t <= 0) t = second * t;
      return t + third;
    default:
      return y;
  }
}

float with_tail(const TailCase& drawn, const Case& k, i64 pixel, i64 o, i32 sum) {
  volatile float y = static_cast<float>(sum) + drawn.row(kOffset, o);
  y = y * drawn.row(kScale, o);
  if (!drawn.factor.empty()) {
    const i64 in_image = pixel % (k.out_h * k.out_w);
    y = y * drawn.factor[static_cast<std::size_t>(in_image * drawn.tail.pitch + o)];
  }
  y = std::fma(y, drawn.row(kAlpha, o), drawn.row(kBeta, o));
  const bool has = !drawn.residual.empty();
  if (has && drawn.tail.residual_last == 0) y = y + residual_at(drawn, k, pixel, o);
  y = activated(drawn, o, y);
  if (has && drawn.tail.residual_last != 0) y = y + residual_at(drawn, k, pixel, o);
  return y;
}

// Real numbers and bits of every tail, into bits with a border of one pixel; of a convolution or of its sums.
bool run_tail(const Case& k, Isa isa, int threads, const std::vector<i32>& sums, const TailCase& drawn,
              bool from_sums) {
  Conv2d conv = k.conv;
  Tail t = drawn.tail;
  const i64 words = ceil_div(conv.out_channels, kWordBits);
  Guarded<float> real(static_cast<i64>(sums.size()));
  const i64 all_words = conv.batch * (k.out_h + 2) * (k.out_w + 2) * words;
  Guarded<u64> bits(all_words);
  std::memset(bits.data(), 0, static_cast<std::size_t>(all_words) * sizeof(u64));
  t.rows = drawn.rows.data();
  t.residual = drawn.residual.empty() ? nullptr : drawn.residual.data();
  t.factor = drawn.factor.empty() ? nullptr : drawn.factor.data();
  t.factor_pitch = t.pitch, t.factor_row = k.out_w * t.pitch;
  t.real = real.data();
  t.bits_row = (k.out_w + 2) * words;
  t.bits_image = (k.out_h + 2) * t.bits_row;
  t.bits = bits.data() + t.bits_row + words;
  conv.tail = &t;
  if (from_sums) {
    binary_conv2d_kernels(isa).finish({conv.batch, k.out_h, k.out_w, conv.out_channels, sums.data(), &t},
                                      threads);
  } else {
    binary_conv2d_kernels(isa).conv2d(conv, threads);
  }
  bool good = real.intact() && bits.intact();
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const i64 index = static_cast<i64>(i), pixel = index / conv.out_channels, o = index % conv.out_channels;
    const float expected = with_tail(drawn, k, pixel, o, sums[i]);
    const i64 image = pixel / k.out_w / k.out_h, y = pixel / k.out_w % k.out_h, x = pixel % k.out_w;
    const u64 word = t.bits[image * t.bits_image + y * t.bits_row + x * words + o / kWordBits];
    good &= real[index] == expected;
    good &= (word >> (o % kWordBits) & 1) == static_cast<u64>(expected >= drawn.row(kThreshold, o));
  }
  return good;
}

// The same image with a border that holds the bits of the padding.
std::vector<u64> bordered(const Conv2d& c, const std::vector<u64>& input, i64 border) {
  const i64 words = ceil_div(c.channels, kWordBits), width = c.width + 2 * border,
            height = c.height + 2 * border;
  std::vector<u64> out(static_cast<std::size_t>(c.batch * height * width * words), 0);
  for (i64 i = 0; i < c.batch * height * width; ++i) {
    const i64 x = i % width - border, y = i / width % height - border, image = i / width / height;
    const bool inside = x >= 0 && y >= 0 && x < c.width && y < c.height;
    for (i64 word = 0; word < words; ++word) {
      const i64 used = smaller(kWordBits, c.channels - word * kWordBits);
      const u64 pad = c.pad_value > 0 ? ~u64{0} >> (kWordBits - used) : 0;
      const i64 at = ((image * c.height + y) * c.width + x) * words + word;
      out[static_cast<std::size_t>(i * words + word)] = inside ? input[static_cast<std::size_t>(at)] : pad;
    }
  }
  return out;
}

void test_tails(Case k, Isa isa, Random& random, const std::vector<u64>& input, const std::vector<i32>& sums,
                Results& results) {
  if (k.conv.groups > 1 && k.conv.out_channels / k.conv.groups % 8 != 0) return;
  for (int threads : {1, 3}) {
    TailCase drawn = draw_tail(k, random);
    results.record(run_tail(k, isa, threads, sums, drawn, false),
                   "tail of " + describe(k, isa, threads, true));
    results.record(run_tail(k, isa, threads, sums, drawn, true),
                   "sums of " + describe(k, isa, threads, true));
    Case b = k;
    b.conv.input_border = larger(k.conv.pad_h, k.conv.pad_w);
    const std::vector<u64> padded = bordered(k.conv, input, b.conv.input_border);
    const i64 words = ceil_div(k.conv.channels, kWordBits);
    b.conv.input_row = (k.conv.width + 2 * b.conv.input_border) * words;
    b.conv.input_image = (k.conv.height + 2 * b.conv.input_border) * b.conv.input_row;
    b.conv.input = padded.data() + b.conv.input_border * (b.conv.input_row + words);
    results.record(run_tail(b, isa, threads, sums, drawn, false),
                   "bordered tail of " + describe(k, isa, threads, true));
  }
}

void test_case(Case k, Isa isa, Random& random, Results& results) {
  Conv2d& c = k.conv;
  const Signs x(random, c.batch * c.height * c.width, c.channels),
      w(random, c.out_channels * k.taps(), k.group_channels());
  const std::vector<u64> input = x.packed(), canonical = w.packed();
  const BinaryConv2dKernels& kernels = binary_conv2d_kernels(isa);
  const WeightShape shape{c.out_channels, k.taps(), c.channels, c.groups};
  Guarded<u8> prepared(kernels.prepared_bytes(shape));
  kernels.prepare_weights(shape, canonical.data(), prepared.data());
  c.input = input.data();
  c.weights = prepared.data();

  const std::vector<i32> sums = naive(k, x, w);
  std::vector<float> epilogue(static_cast<std::size_t>(4 * c.out_channels));
  for (float& value : epilogue) value = random.uniform();
  for (int threads : {1, 3}) {
    results.record(run_ints(c, isa, threads, sums) && prepared.intact(), describe(k, isa, threads, false));
    results.record(run_floats(c, isa, threads, sums, epilogue), describe(k, isa, threads, true));
  }
  test_tails(k, isa, random, input, sums, results);
}

// batch, height, width, channels, out_channels, kernel 2, stride 2, pad 2, dilation 2, groups, pad_value
constexpr i64 kNamedCases[][15] = {
    {0, 4, 4, 8, 8, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0},      // nothing in
    {1, 2, 2, 8, 8, 3, 3, 1, 1, 0, 0, 1, 1, 1, 0},      // kernel larger than the image: nothing out
    {1, 1, 1, 65, 33, 7, 7, 1, 1, 3, 3, 1, 1, 1, 0},    // one pixel, all taps but one outside
    {1, 14, 14, 64, 64, 3, 3, 1, 1, 1, 1, 1, 1, 1, 0},  // ResNet
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
};

Case named_case(const i64 (&v)[15]) {
  Conv2d c{};
  c.batch = v[0], c.height = v[1], c.width = v[2], c.channels = v[3], c.out_channels = v[4];
  c.kernel_h = v[5], c.kernel_w = v[6], c.stride_h = v[7], c.stride_w = v[8], c.pad_h = v[9], c.pad_w = v[10];
  c.dilation_h = v[11], c.dilation_w = v[12], c.groups = v[13], c.pad_value = v[14];
  return make_case(c);
}

// All bits differ: the largest counts that a reduction can reach.
void test_extremes(Isa isa, Results& results) {
  for (i64 channels : {63, 64, 252, 1000, 65535, 65540, 140000}) {
    const i64 words = ceil_div(channels, kWordBits), out_channels = 40;
    std::vector<u64> x(static_cast<std::size_t>(2 * words), 0),
        w(static_cast<std::size_t>(out_channels * words), 0);
    for (i64 c = 0; c < channels; ++c)
      x[static_cast<std::size_t>(c / kWordBits)] |= u64{1} << (c % kWordBits);
    const BinaryConv2dKernels& kernels = binary_conv2d_kernels(isa);
    const WeightShape shape{out_channels, 1, channels, 1};
    Guarded<u8> prepared(kernels.prepared_bytes(shape));
    kernels.prepare_weights(shape, w.data(), prepared.data());
    Case k = named_case({1, 1, 2, channels, out_channels, 1, 1, 1, 1, 0, 0, 1, 1, 1, 0});
    k.conv.input = x.data();
    k.conv.weights = prepared.data();
    std::vector<i32> expected(static_cast<std::size_t>(out_channels), static_cast<i32>(-channels));
    expected.resize(static_cast<std::size_t>(2 * out_channels), static_cast<i32>(channels));
    results.record(run_ints(k.conv, isa, 1, expected), describe(k, isa, 1, false));
  }
}

// The work that a peak is computed from: whole, and in proportion.
void test_counting(Isa isa, Results& results) {
  const BinaryConv2dKernels& kernels = binary_conv2d_kernels(isa);
  const i64 once = kernels.count_in_cache(1);
  results.record(once > 0 && kernels.count_in_cache(3) == 3 * once, "count_in_cache");
}

}  // namespace

void test_conv2d(Isa isa, Results& results) {
  constexpr int kDrawn = 150;
  Random random(20240607);
  for (const auto& values : kNamedCases) test_case(named_case(values), isa, random, results);
  for (int i = 0; i < kDrawn; ++i) test_case(draw_case(random), isa, random, results);
  test_extremes(isa, results);
  test_counting(isa, results);
}

}  // namespace bittern::test
