// SPDX-License-Identifier: Apache-2.0

// binary_conv2d against the sum of products written out, over shapes drawn from the awkward ones.

#include <cmath>

#include "conv_cases.h"

namespace bittern::test {
namespace {

float with_epilogue(const std::vector<float>& rows, i64 out_channels, i64 o, i32 sum) {
  const auto row = [&](i64 i) { return rows[static_cast<std::size_t>(i * out_channels + o)]; };
  volatile float y = static_cast<float>(sum) + row(0);  // volatile: every operation rounds
  y = y * row(1);
  return std::fma(y, row(2), row(3));
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
  std::vector<float> rows, residual, input_scale, factor;

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
  if (random.below(3) == 0) {
    drawn.input_scale.resize(static_cast<std::size_t>(larger(1, k.conv.batch * k.out_h * k.out_w)));
    for (float& value : drawn.input_scale) value = random.uniform();
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

// The same with an epilogue alone, some of whose numbers are special ones.
TailCase signs_alone(TailCase drawn, Random& random) {
  Tail& t = drawn.tail;
  t.activation = static_cast<i64>(Activation::none);
  drawn.residual.clear();
  drawn.input_scale.clear();
  drawn.factor.clear();
  const auto put = [&](TailRow row, float value) {
    drawn.rows[static_cast<std::size_t>(row * t.pitch + random.below(t.pitch))] = value;
  };
  put(kAlpha, 0.0f), put(kScale, 0.0f), put(kThreshold, 1000.0f), put(kThreshold, -1000.0f);
  for (i64 i = 0; i < t.pitch; i += 3) {  // ties: integers, as thresholds of accumulators are
    for (TailRow row : {kOffset, kBeta}) drawn.rows[static_cast<std::size_t>(row * t.pitch + i)] = 0.0f;
    drawn.rows[static_cast<std::size_t>(kScale * t.pitch + i)] = 1.0f;
    drawn.rows[static_cast<std::size_t>(kAlpha * t.pitch + i)] = random.below(2) != 0 ? 1.0f : -1.0f;
    drawn.rows[static_cast<std::size_t>(kThreshold * t.pitch + i)] = static_cast<float>(random.below(9) - 4);
  }
  const float special[] = {3e38f, -3e38f, INFINITY, -INFINITY, NAN};
  if (random.below(4) == 0) put(static_cast<TailRow>(random.below(kFirst)), special[random.below(5)]);
  if (random.below(4) == 0) put(kThreshold, special[random.below(5)]);
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
  if (!drawn.input_scale.empty()) y = y * drawn.input_scale[static_cast<std::size_t>(pixel)];
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

// Which results a tail has.
enum class Wanted { both, real, bits };

// Real numbers and bits of every tail, into bits with a border of one pixel; of a convolution or of its sums.
bool run_tail(const Case& k, Isa isa, int threads, const std::vector<i32>& sums, const TailCase& drawn,
              bool from_sums, Wanted wanted = Wanted::both) {
  Conv2d conv = k.conv;
  Tail t = drawn.tail;
  const i64 words = ceil_div(conv.out_channels, kWordBits);
  Guarded<float> real(static_cast<i64>(sums.size()));
  const i64 all_words = conv.batch * (k.out_h + 2) * (k.out_w + 2) * words;
  Guarded<u64> bits(all_words);
  std::memset(bits.data(), 0, static_cast<std::size_t>(all_words) * sizeof(u64));
  t.rows = drawn.rows.data();
  t.residual = drawn.residual.empty() ? nullptr : drawn.residual.data();
  t.input_scale = drawn.input_scale.empty() ? nullptr : drawn.input_scale.data();
  t.factor = drawn.factor.empty() ? nullptr : drawn.factor.data();
  t.factor_pitch = t.pitch, t.factor_row = k.out_w * t.pitch;
  if (wanted != Wanted::bits) t.real = real.data();
  t.bits_row = (k.out_w + 2) * words;
  t.bits_image = (k.out_h + 2) * t.bits_row;
  const u64* first = bits.data() + t.bits_row + words;
  if (wanted != Wanted::real) t.bits = bits.data() + t.bits_row + words;
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
    const u64 word = first[image * t.bits_image + y * t.bits_row + x * words + o / kWordBits];
    const bool above = wanted != Wanted::real && expected >= drawn.row(kThreshold, o);
    good &= wanted == Wanted::bits || real[index] == expected;
    good &= (word >> (o % kWordBits) & 1) == static_cast<u64>(above);
  }
  const i64 spare = words * kWordBits - conv.out_channels;
  for (i64 i = 0; i < all_words; ++i) {  // surplus bits, and the border
    const i64 x = i / words % (k.out_w + 2), y = i / words / (k.out_w + 2) % (k.out_h + 2);
    const bool inside = x > 0 && y > 0 && x <= k.out_w && y <= k.out_h;
    const bool last = (i + 1) % words == 0 && spare > 0;
    good &= inside ? !last || bits[i] >> (kWordBits - spare) == 0 : bits[i] == 0;
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
  for (int threads : {1, 3}) {
    TailCase drawn = draw_tail(k, random);
    results.record(run_tail(k, isa, threads, sums, drawn, false),
                   "tail of " + describe(k, isa, threads, true));
    results.record(run_tail(k, isa, threads, sums, drawn, true),
                   "sums of " + describe(k, isa, threads, true));
    for (Wanted wanted : {Wanted::real, Wanted::bits}) {
      results.record(run_tail(k, isa, threads, sums, drawn, false, wanted),
                     "one result of the tail of " + describe(k, isa, threads, true));
    }
    results.record(run_tail(k, isa, threads, sums, signs_alone(drawn, random), false, Wanted::bits),
                   "signs of " + describe(k, isa, threads, true));
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

// The same under nine taps, for kernels that count few channels in bytes.
void test_extremes_of_windows(Isa isa, Results& results) {
  for (i64 channels : {16, 28, 56, 84, 112}) {
    const Case k = named_case({1, 3, 3, channels, 17, 3, 3, 1, 1, 0, 0, 1, 1, 1, 0});
    const i64 words = ceil_div(channels, kWordBits);
    std::vector<u64> x(static_cast<std::size_t>(9 * words), 0),
        w(static_cast<std::size_t>(17 * 9 * words), 0);
    for (i64 i = 0; i < 9 * channels; ++i) {
      x[static_cast<std::size_t>(i / channels * words + i % channels / kWordBits)] |=
          u64{1} << (i % channels % kWordBits);
    }
    const BinaryConv2dKernels& kernels = binary_conv2d_kernels(isa);
    const WeightShape shape{17, 9, channels, 1};
    Guarded<u8> prepared(kernels.prepared_bytes(shape));
    kernels.prepare_weights(shape, w.data(), prepared.data());
    Conv2d c = k.conv;
    c.input = x.data();
    c.weights = prepared.data();
    const std::vector<i32> expected(17, static_cast<i32>(-9 * channels));
    results.record(run_ints(c, isa, 1, expected), describe(k, isa, 1, false));
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
  for (int i = 0; i < kDrawn; ++i) {
    test_case(draw_case(random), isa, random, results);
    test_case(draw_depthwise(random), isa, random, results);
    test_case(draw_grouped(random), isa, random, results);
    test_case(draw_few_channels(random), isa, random, results);
  }
  test_extremes(isa, results);
  test_extremes_of_windows(isa, results);
  test_counting(isa, results);
}

}  // namespace bittern::test
