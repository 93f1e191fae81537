// SPDX-License-Identifier: Apache-2.0

// multibit_quantize: every instruction set against the scalar one, bit by bit. multibit_matvec against the
// products of its planes, counted one bit at a time.

#include "multibit_matvec/kernel.h"
#include "multibit_quantize/kernel.h"

#include "harness.h"

namespace bittern::test {
namespace {

std::string describe(const char* op, Isa isa, std::initializer_list<i64> numbers) {
  std::string text = std::string(op) + " " + isa_name(isa);
  for (i64 number : numbers) text += " " + std::to_string(number);
  return text;
}

struct Quantized {
  Guarded<u64> words;
  Guarded<float> scale;
};

void quantize(Isa isa, const std::vector<float>& x, i64 rows, i64 n, int planes, bool refined,
              Quantized& found) {
  multibit_quantize_kernels(isa).quantize(
      {x.data(), rows, n, planes, 2, refined, found.words.data(), found.scale.data()}, 1);
}

void test_quantize(Isa isa, Random& random, i64 n, int planes, bool refined, Results& results) {
  const i64 rows = 3, words = ceil_div(n, kWordBits);
  std::vector<float> x(static_cast<std::size_t>(rows * n));
  for (float& value : x) value = random.uniform();
  for (i64 i = n; i < 2 * n; ++i) x[static_cast<std::size_t>(i)] = random.below(2) != 0 ? 0.5f : -0.5f;
  Quantized mine{Guarded<u64>(planes * rows * words), Guarded<float>(rows * planes)}, expected = mine;
  quantize(isa, x, rows, n, planes, refined, mine);
  quantize(Isa::scalar, x, rows, n, planes, refined, expected);
  bool same = mine.words.intact() && mine.scale.intact();
  for (i64 i = 0; i < planes * rows * words; ++i) same = same && mine.words[i] == expected.words[i];
  for (i64 i = 0; i < rows * planes; ++i) same = same && mine.scale[i] == expected.scale[i];
  results.record(same, describe("multibit_quantize", isa, {n, planes, refined}));
}

// Words whose bits from n on are 0.
std::vector<u64> random_rows(Random& random, i64 rows, i64 n) {
  const i64 words = ceil_div(n, kWordBits);
  std::vector<u64> found(static_cast<std::size_t>(rows * words));
  for (i64 i = 0; i < rows * words; ++i) {
    const i64 left = n - i % words * kWordBits;
    found[static_cast<std::size_t>(i)] = random.word() & (left >= kWordBits ? ~u64{0} : (u64{1} << left) - 1);
  }
  return found;
}

std::vector<float> random_numbers(Random& random, i64 count) {
  std::vector<float> found(static_cast<std::size_t>(count));
  for (float& value : found) value = random.uniform();
  return found;
}

float product(const u64* a, const u64* b, i64 n) {
  i64 differ = 0;
  for (i64 i = 0; i < n; ++i) differ += ((a[i / 64] ^ b[i / 64]) >> (i % 64)) & 1;
  return static_cast<float>(n - 2 * differ);
}

void test_product(Isa isa, Random& random, const MultibitWeight& w, i64 planes, i64 batch, int threads,
                  Results& results) {
  const std::vector<u64> weights = random_rows(random, w.planes * w.rows, w.n);
  const std::vector<u64> x = random_rows(random, planes * batch, w.n);
  const std::vector<float> w_scale = random_numbers(random, w.planes * w.rows);
  const std::vector<float> x_scale = random_numbers(random, batch * planes);
  const std::vector<float> bias = random_numbers(random, w.rows);
  const MultibitMatvecKernels& kernels = multibit_matvec_kernels(isa);
  const BinaryConv2dKernels& products = binary_conv2d_kernels(isa);
  Guarded<u8> prepared(kernels.prepared_bytes(w, products));
  Guarded<float> y(batch * w.rows);
  kernels.prepare(w, products, weights.data(), prepared.data());
  kernels.multiply(
      {w, prepared.data(), w_scale.data(), bias.data(), batch, planes, x.data(), x_scale.data(), y.data()},
      products, threads);
  bool right = prepared.intact() && y.intact();
  for (i64 b = 0; b < batch; ++b) {
    for (i64 r = 0; r < w.rows; ++r) {
      float expected = 0;
      for (i64 j = 0; j < planes; ++j) {
        for (i64 i = 0; i < w.planes; ++i) {
          const float acc = product(weights.data() + (i * w.rows + r) * w.words(),
                                    x.data() + (j * batch + b) * w.words(), w.n);
          const float scaled = acc * w_scale[static_cast<std::size_t>(i * w.rows + r)] *
                               x_scale[static_cast<std::size_t>(b * planes + j)];
          expected = i + j == 0 ? scaled : expected + scaled;
        }
      }
      right = right && y[b * w.rows + r] == expected + bias[static_cast<std::size_t>(r)];
    }
  }
  results.record(right, describe("multibit_matvec", isa, {w.planes, w.rows, w.n, planes, batch, threads}));
}

}  // namespace

void test_multibit(Isa isa, Results& results) {
  Random random(16);
  for (i64 n : {1, 63, 64, 200, 333}) {
    for (int planes : {1, 2, 3, 5}) test_quantize(isa, random, n, planes, planes % 2 == 0, results);
  }
  for (i64 n : {1, 65, 500}) {
    for (i64 rows : {1, 33, 70}) {
      for (i64 planes : {1, 2, 3}) {
        test_product(isa, random, {planes, rows, n}, 1 + planes % 3, 1, 1, results);
        test_product(isa, random, {1 + planes % 3, rows, n}, planes, 5, 2, results);
      }
    }
  }
}

}  // namespace bittern::test
