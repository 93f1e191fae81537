// SPDX-License-Identifier: Apache-2.0

// sign, pack_signs and unpack_signs against one comparison per element.

#include <cmath>
#include <limits>

#include "harness.h"
#include "pack_signs/kernel.h"
#include "sign/kernel.h"
#include "unpack_signs/kernel.h"

namespace bittern::test {
namespace {

constexpr int kThreadCounts[] = {1, 3};

// A 16-bit float, from its definition.
double half_value(u16 bits, int fraction_bits, int bias) {
  const int exponent_bits = 15 - fraction_bits, all_ones = (1 << exponent_bits) - 1;
  const int exponent = bits >> fraction_bits & all_ones, fraction = bits & ((1 << fraction_bits) - 1);
  const double sign = bits >> 15 != 0 ? -1 : 1;
  if (exponent == all_ones)
    return fraction != 0 ? std::nan("") : sign * std::numeric_limits<double>::infinity();
  const double significand = exponent == 0 ? fraction : fraction + (1 << fraction_bits);
  return sign * std::ldexp(significand, (exponent == 0 ? 1 : exponent) - bias - fraction_bits);
}

double value_of(float x) {
  return x;
}
double value_of(double x) {
  return x;
}
double value_of(i32 x) {
  return x;
}
double value_of(f16 x) {
  return half_value(x.bits, 10, 15);
}
double value_of(bf16 x) {
  return half_value(x.bits, 7, 127);
}

template <class T>
T special(i64 i) {
  constexpr T kValues[] = {T(0),
                           -T(0),
                           std::numeric_limits<T>::infinity(),
                           -std::numeric_limits<T>::infinity(),
                           std::numeric_limits<T>::quiet_NaN(),
                           -std::numeric_limits<T>::quiet_NaN(),
                           std::numeric_limits<T>::denorm_min(),
                           -std::numeric_limits<T>::denorm_min()};
  return kValues[i];
}

void draw(Random& random, float& x) {
  x = random.below(4) == 0 ? special<float>(random.below(8)) : random.uniform();
}
void draw(Random& random, double& x) {
  x = random.below(4) == 0 ? special<double>(random.below(8)) : random.uniform();
}
void draw(Random& random, i32& x) {
  x = static_cast<i32>(random.below(7)) - 3;
}
void draw(Random& random, f16& x) {
  x.bits = static_cast<u16>(random.word());
}
void draw(Random& random, bf16& x) {
  x.bits = static_cast<u16>(random.word());
}

template <class T>
std::vector<T> draw_many(Random& random, i64 n) {
  std::vector<T> values(static_cast<std::size_t>(n));
  for (T& x : values) draw(random, x);
  return values;
}

std::string describe(const char* op, Isa isa, DType type, i64 rows, i64 cols, int threads) {
  return std::string(op) + " " + isa_name(isa) + " dtype " + std::to_string(static_cast<int>(type)) + " " +
         std::to_string(rows) + "x" + std::to_string(cols) + " threads " + std::to_string(threads);
}

// Bits of a packed [rows, cols] that differ from x >= threshold, and surplus bits that are not 0.
template <class T, class Threshold>
i64 wrong_bits(const std::vector<T>& x, const Threshold* threshold, i64 rows, i64 cols,
               const Guarded<u64>& words) {
  const i64 pitch = ceil_div(cols, kWordBits);
  i64 wrong = 0;
  for (i64 r = 0; r < rows; ++r) {
    for (i64 c = 0; c < pitch * kWordBits; ++c) {
      const double limit = threshold != nullptr && c < cols ? static_cast<double>(threshold[c]) : 0;
      const bool expected = c < cols && value_of(x[static_cast<std::size_t>(r * cols + c)]) >= limit;
      wrong += (words[r * pitch + c / kWordBits] >> (c % kWordBits) & 1) != static_cast<u64>(expected);
    }
  }
  return wrong;
}

template <class T, class Threshold>
void test_pack(Isa isa, DType type, i64 rows, i64 cols, Results& results) {
  Random random(static_cast<unsigned>(rows * 1000 + cols));
  const std::vector<T> x = draw_many<T>(random, rows * cols);
  const std::vector<Threshold> limits = draw_many<Threshold>(random, cols);
  for (int threads : kThreadCounts) {
    for (const Threshold* threshold : {static_cast<const Threshold*>(nullptr), limits.data()}) {
      Guarded<u64> words(rows * ceil_div(cols, kWordBits));
      pack_signs_kernels(isa).pack(x.data(), type, rows, cols, threshold, words.data(), threads);
      const bool good = words.intact() && wrong_bits(x, threshold, rows, cols, words) == 0;
      results.record(good, describe("pack_signs", isa, type, rows, cols, threads));
    }
  }
}

template <class T>
void test_sign(Isa isa, DType type, i64 n, Results& results) {
  Random random(static_cast<unsigned>(n));
  const std::vector<T> x = draw_many<T>(random, n);
  for (int threads : kThreadCounts) {
    Guarded<T> out(n);
    sign_kernels(isa).sign(x.data(), type, n, out.data(), threads);
    bool good = out.intact();
    for (i64 i = 0; i < n; ++i) {
      good &= value_of(out[i]) == (value_of(x[static_cast<std::size_t>(i)]) >= 0 ? 1 : -1);
    }
    results.record(good, describe("sign", isa, type, 1, n, threads));
  }
}

template <class T>
void test_unpack(Isa isa, DType type, i64 rows, i64 cols, Results& results) {
  Random random(static_cast<unsigned>(rows + cols));
  const i64 pitch = ceil_div(cols, kWordBits);
  std::vector<u64> words(static_cast<std::size_t>(rows * pitch));
  for (u64& word : words) word = random.word();
  for (int threads : kThreadCounts) {
    Guarded<T> out(rows * cols);
    unpack_signs_kernels(isa).unpack(words.data(), rows, cols, type, out.data(), threads);
    bool good = out.intact();
    for (i64 r = 0; r < rows; ++r) {
      for (i64 c = 0; c < cols; ++c) {
        const u64 bit = words[static_cast<std::size_t>(r * pitch + c / kWordBits)] >> (c % kWordBits) & 1;
        good &= value_of(out[r * cols + c]) == (bit != 0 ? 1 : -1);
      }
    }
    results.record(good, describe("unpack_signs", isa, type, rows, cols, threads));
  }
}

}  // namespace

void test_elementwise(Isa isa, Results& results) {
  constexpr i64 kShapes[][2] = {{0, 5},   {3, 0},    {1, 1},   {3, 7},    {9, 16},   {5, 31},
                                {4, 32},  {2, 63},   {6, 64},  {3, 65},   {2, 255},  {2, 257},
                                {3, 320}, {1, 4097}, {700, 3}, {601, 64}, {90, 1000}};
  for (const auto& shape : kShapes) {
    const i64 rows = shape[0], cols = shape[1];
    test_pack<float, float>(isa, DType::f32, rows, cols, results);
    test_pack<double, double>(isa, DType::f64, rows, cols, results);
    test_pack<f16, float>(isa, DType::f16, rows, cols, results);
    test_pack<bf16, float>(isa, DType::bf16, rows, cols, results);
    test_pack<i32, i32>(isa, DType::i32, rows, cols, results);
    test_unpack<float>(isa, DType::f32, rows, cols, results);
    test_unpack<double>(isa, DType::f64, rows, cols, results);
    test_unpack<f16>(isa, DType::f16, rows, cols, results);
    test_unpack<bf16>(isa, DType::bf16, rows, cols, results);
    test_sign<float>(isa, DType::f32, rows * cols, results);
    test_sign<double>(isa, DType::f64, rows * cols, results);
    test_sign<f16>(isa, DType::f16, rows * cols, results);
    test_sign<bf16>(isa, DType::bf16, rows * cols, results);
    test_sign<i32>(isa, DType::i32, rows * cols, results);
  }
}

}  // namespace bittern::test
