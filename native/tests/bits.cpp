// SPDX-License-Identifier: Apache-2.0

// pool_bits and concatenate_bits against one bit at a time.

#include "binary_block/program.h"

#include "harness.h"

namespace bittern::test {
namespace {

std::string describe(const char* op, Isa isa, std::initializer_list<i64> numbers, int threads) {
  std::string text = std::string(op) + " " + isa_name(isa);
  for (i64 number : numbers) text += " " + std::to_string(number);
  return text + " threads " + std::to_string(threads);
}

bool bit_of(const u64* words, i64 index) {
  return (words[index / kWordBits] >> (index % kWordBits) & 1) != 0;
}

std::vector<u64> random_words(Random& random, i64 count) {
  std::vector<u64> words(static_cast<std::size_t>(count + 1));
  for (u64& word : words) word = random.word();
  return words;
}

PoolBits draw_pool(Random& random) {
  PoolBits p{};
  p.batch = random.pick({0, 1, 2});
  p.height = random.pick({1, 4, 7, 12});
  p.width = random.pick({1, 5, 8, 40});
  p.words = random.pick({1, 2, 3, 8});
  p.kernel_h = random.pick({1, 2, 3}), p.kernel_w = random.pick({1, 2, 3});
  p.stride_h = random.pick({1, 2, 3}), p.stride_w = random.pick({1, 2, 5});
  p.pad_h = random.below(p.kernel_h / 2 + 1), p.pad_w = random.below(p.kernel_w / 2 + 1);
  // windows may reach beyond the image, each sees at least one pixel of it
  p.out_height = (p.height + p.pad_h - 1) / p.stride_h + 1;
  p.out_width = (p.width + p.pad_w - 1) / p.stride_w + 1;
  return p;
}

bool pooled_bit(const PoolBits& p, i64 image, i64 y, i64 x, i64 bit) {
  const bool falls = p.flip != nullptr && bit_of(p.flip, bit);
  bool most = falls;
  for (i64 i = 0; i < p.kernel_h; ++i) {
    for (i64 j = 0; j < p.kernel_w; ++j) {
      const i64 row = y * p.stride_h - p.pad_h + i, column = x * p.stride_w - p.pad_w + j;
      if (row < 0 || column < 0 || row >= p.height || column >= p.width) continue;
      const bool value = bit_of(p.x + image * p.x_image + row * p.x_row + column * p.words, bit);
      most = falls ? most && value : most || value;
    }
  }
  return most;
}

void test_pool(PoolBits p, Isa isa, Random& random, Results& results) {
  const i64 border = random.below(2);  // of the result
  p.x_row = p.width * p.words + 3;
  p.x_image = p.height * p.x_row + 1;
  p.out_row = (p.out_width + 2 * border) * p.words;
  p.out_image = (p.out_height + 2 * border) * p.out_row;
  const std::vector<u64> x = random_words(random, p.batch * p.x_image), flip = random_words(random, p.words);
  p.x = x.data();
  p.flip = random.below(2) != 0 ? flip.data() : nullptr;
  for (int threads : {1, 2}) {
    Guarded<u64> memory(p.batch * p.out_image);
    std::memset(memory.data(), 0, static_cast<std::size_t>(p.batch * p.out_image) * sizeof(u64));
    p.out = memory.data() + border * (p.out_row + p.words);
    ProgramStep step{};
    step.kind = StepKind::pool_bits;
    step.pool_bits = p;
    run_steps(isa, &step, 1, threads);
    bool good = memory.intact();
    i64 ones = 0, expected_ones = 0;
    for (i64 i = 0; i < p.batch * p.out_image; ++i) ones += __builtin_popcountll(memory[i]);
    for (i64 pixel = 0; pixel < p.batch * p.out_height * p.out_width; ++pixel) {
      const i64 image = pixel / p.out_width / p.out_height, oy = pixel / p.out_width % p.out_height,
                ox = pixel % p.out_width;
      const u64* out = p.out + image * p.out_image + oy * p.out_row + ox * p.words;
      for (i64 bit = 0; bit < p.words * kWordBits; ++bit) {
        const bool expected = pooled_bit(p, image, oy, ox, bit);
        expected_ones += expected;
        good &= bit_of(out, bit) == expected;
      }
    }
    good &= ones == expected_ones;  // the border stays 0
    results.record(good, describe("pool_bits", isa,
                                  {p.batch, p.height, p.width, p.words, p.kernel_h, p.kernel_w}, threads));
  }
}

void test_parts(Isa isa, Random& random, Results& results) {
  const i64 count = random.pick({1, 2, 3, 5}), pixels = random.pick({0, 1, 6, 9000});
  std::vector<i64> channels;
  i64 total = 0;
  for (i64 i = 0; i < count; ++i) channels.push_back(random.pick({1, 31, 63, 64, 65, 128, 200}));
  for (i64 n : channels) total += n;
  const i64 out_words = ceil_div(total, kWordBits);
  std::vector<std::vector<u64>> parts;
  std::vector<ProgramStep> steps;
  for (i64 n : channels) {
    const i64 words = ceil_div(n, kWordBits);
    parts.push_back(random_words(random, pixels * words));
    for (i64 i = 0; i < pixels && n % kWordBits != 0; ++i) {  // bits behind the last channel are 0
      parts.back()[static_cast<std::size_t>((i + 1) * words - 1)] &= (u64{1} << (n % kWordBits)) - 1;
    }
  }
  for (int threads : {1, 2}) {
    Guarded<u64> out(pixels * out_words);
    steps.clear();
    for (i64 i = 0, offset = 0; i < count; offset += channels[static_cast<std::size_t>(i)], ++i) {
      ProgramStep step{};
      step.kind = StepKind::concatenate_bits;
      ConcatenateBits& c = step.concatenate_bits;
      c.batch = 1, c.height = pixels, c.width = 1;
      c.channels = channels[static_cast<std::size_t>(i)];
      c.offset = offset;
      c.x = parts[static_cast<std::size_t>(i)].data();
      c.x_row = ceil_div(c.channels, kWordBits);
      c.out_words = c.out_row = out_words;
      c.out = out.data();
      steps.push_back(step);
    }
    run_steps(isa, steps.data(), count, threads);
    bool good = out.intact();
    for (i64 pixel = 0; pixel < pixels; ++pixel) {
      i64 place = 0;
      const u64* row = out.data() + pixel * out_words;
      for (i64 i = 0; i < count; ++i) {
        const i64 n = channels[static_cast<std::size_t>(i)];
        const u64* part = parts[static_cast<std::size_t>(i)].data() + pixel * ceil_div(n, kWordBits);
        for (i64 bit = 0; bit < n; ++bit, ++place) good &= bit_of(row, place) == bit_of(part, bit);
      }
      for (; place < out_words * kWordBits; ++place) good &= !bit_of(row, place);
    }
    results.record(good, describe("concatenate_bits", isa, {count, pixels, total}, threads));
  }
}

}  // namespace

void test_bits(Isa isa, Results& results) {
  Random random(11);
  for (int i = 0; i < 60; ++i) test_pool(draw_pool(random), isa, random, results);
  PoolBits large = draw_pool(random);
  large.batch = 2, large.height = 60, large.width = 70, large.words = 5;  // worth several threads
  large.out_height = (large.height + large.pad_h - 1) / large.stride_h + 1;
  large.out_width = (large.width + large.pad_w - 1) / large.stride_w + 1;
  test_pool(large, isa, random, results);
  for (int i = 0; i < 40; ++i) test_parts(isa, random, results);
}

}  // namespace bittern::test
