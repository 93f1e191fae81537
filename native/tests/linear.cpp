// SPDX-License-Identifier: Apache-2.0

// linear_4bit, its backward and linear_8bit: every instruction set against sums in float64 and int64.

#include <cmath>

#include "harness.h"
#include "linear_4bit/kernel.h"
#include "linear_8bit/kernel.h"
#include "numbers.h"

namespace bittern::test {
namespace {

struct Shape {
  i64 n, k, block;
};
constexpr Shape kShapes[] = {{1, 32, 32},  {5, 64, 64},    {33, 192, 64}, {7, 96, 32},   {10, 130, 64},
                             {3, 63, 32},  {2, 2144, 32},  {9, 640, 128}, {4, 1088, 64}, {6, 4096, 4096},
                             {6, 333, 32}, {9, 1100, 128}, {4, 45, 512},  {70, 100, 64}, {67, 1029, 32}};
constexpr i64 kInputs[] = {1, 2, 3, 4, 5, 6, 13, 49};

std::vector<float> random_floats(Random& random, i64 n) {
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& value : x) value = random.uniform();
  return x;
}

// n numbers in the memory of `type`, exactly representable there.
struct Numbers {
  std::vector<float> values;
  std::vector<u16> halves;
  DType type;

  Numbers(Random& random, i64 n, DType type) : values(random_floats(random, n)), type(type) {
    for (float& value : values) {
      value = rounded(type, value);
      halves.push_back(static_cast<u16>(bits_as(type, value)));
    }
  }
  const void* data() const {
    return type == DType::f32 ? static_cast<const void*>(values.data()) : halves.data();
  }
};

float read(const Guarded<float>& wide, const Guarded<u16>& narrow, DType type, i64 i) {
  if (type == DType::f32) return wide[i];
  return type == DType::bf16 ? scalar::widen(bf16{narrow[i]}) : scalar::widen(f16{narrow[i]});
}

bool close(float found, double exact, DType type) {
  const double epsilon = type == DType::f32 ? 1e-5 : 1.0 / 64;
  return std::fabs(found - exact) <= epsilon * (50 + std::fabs(exact));
}

enum class Scales { plain, nested, powers };

// Scales of a kind, and what they are.
struct BlockScalesOf {
  std::vector<float> absmax, table, outer;
  std::vector<u8> codes;
  BlockScales view{};

  BlockScalesOf(Random& random, i64 blocks, Scales kind)
      : absmax(random_floats(random, blocks)),
        table(random_floats(random, 256)),
        outer(random_floats(random, ceil_div(blocks, kNestedBlock))) {
    view.absmax = absmax.data();
    if (kind == Scales::plain) return;
    const bool nested = kind == Scales::nested;
    view = {nullptr, nullptr, nested ? table.data() : nullptr, outer.data(), 0.25f};
    for (std::size_t i = 0; i < absmax.size(); ++i) {
      const int code = nested ? random.below(256) : 112 + random.below(16);
      codes.push_back(static_cast<u8>(code));
      const float sum = table[static_cast<std::size_t>(code)] * outer[i / kNestedBlock] + view.offset;
      absmax[i] = nested ? std::fmax(sum, 0.0f) : std::ldexp(1.0f, code - 127);
    }
    view.codes = codes.data();
  }
};

struct Weight {
  std::vector<u8> packed;
  BlockScalesOf scales;
  Weight4bit view;

  Weight(Random& random, const Shape& s, DType type, Scales kind)
      : scales(random, ceil_div(s.n * s.k, s.block), kind) {
    packed.resize(static_cast<std::size_t>(ceil_div(s.n * s.k, 2)));
    for (u8& byte : packed) byte = static_cast<u8>(random.below(256));
    view = {packed.data(), scales.view, {}, s.n, s.k, s.block, type};
    for (float& value : view.table.values) value = random.uniform();
  }
  double at(i64 row, i64 column) const {
    const i64 i = row * view.k + column;
    const int byte = packed[static_cast<std::size_t>(i / 2)], code = i % 2 == 0 ? byte >> 4 : byte & 15;
    return rounded(view.type,
                   view.table.values[code] * scales.absmax[static_cast<std::size_t>(i / view.block)]);
  }
};

void test_4bit(Isa isa, Results& results, const Shape& s, i64 m, DType type) {
  Random random(static_cast<unsigned>(s.n * 1000 + s.k + m));
  const Weight weight(random, s, type, static_cast<Scales>((s.n + m) % 3));
  const Numbers x(random, m * s.k, type), grad(random, m * s.n, type), bias(random, s.n, type);
  Guarded<float> y(m * s.n), dx(m * s.k);
  Guarded<u16> y_half(m * s.n), dx_half(m * s.k);
  const bool wide = type == DType::f32;
  void* out = wide ? static_cast<void*>(y.data()) : y_half.data();
  void* back_out = wide ? static_cast<void*>(dx.data()) : dx_half.data();
  linear_4bit_kernels(isa).forward({x.data(), bias.data(), out, type, m}, weight.view, 1);
  linear_4bit_kernels(isa).backward({grad.data(), nullptr, back_out, type, m}, weight.view, 1);
  bool right = y.intact() && dx.intact() && y_half.intact() && dx_half.intact();
  for (i64 i = 0; i < m; ++i) {
    for (i64 row = 0; row < s.n; ++row) {
      double sum = bias.values[static_cast<std::size_t>(row)];
      for (i64 e = 0; e < s.k; ++e)
        sum += x.values[static_cast<std::size_t>(i * s.k + e)] * weight.at(row, e);
      right = right && close(read(y, y_half, type, i * s.n + row), sum, type);
    }
    for (i64 e = 0; e < s.k; ++e) {
      double sum = 0;
      for (i64 row = 0; row < s.n; ++row)
        sum += grad.values[static_cast<std::size_t>(i * s.n + row)] * weight.at(row, e);
      right = right && close(read(dx, dx_half, type, i * s.k + e), sum, type);
    }
  }
  results.record(right, std::string(isa_name(isa)) + ": 4-bit linear " + std::to_string(m) + " x " +
                            std::to_string(s.n) + " x " + std::to_string(s.k) + " " + type_name(type));
}

void test_8bit(Isa isa, Results& results, const Shape& s, i64 m) {
  Random random(static_cast<unsigned>(s.n * 1000 + s.k + m));
  const Numbers x(random, m * s.k, DType::f32);
  std::vector<std::int8_t> weight(static_cast<std::size_t>(s.n * s.k));
  for (std::int8_t& w : weight) w = static_cast<std::int8_t>(random.below(255) - 127);
  const std::vector<float> scale = random_floats(random, s.n);
  Guarded<float> found(m * s.n), expected(m * s.n);
  Linear8bitCall call{x.data(),      DType::f32,   m,       s.n,     s.k,
                      weight.data(), scale.data(), nullptr, nullptr, found.data()};
  linear_8bit_kernels(isa).forward(call, 1);
  call.out = expected.data();
  linear_8bit_kernels(Isa::scalar).forward(call, 1);
  bool right = found.intact();
  for (i64 i = 0; i < m * s.n; ++i) right = right && found[i] == expected[i];
  for (i64 i = 0; i < m; ++i) {
    for (i64 row = 0; row < s.n; ++row) {
      double sum = 0;
      for (i64 e = 0; e < s.k; ++e)
        sum +=
            x.values[static_cast<std::size_t>(i * s.k + e)] * weight[static_cast<std::size_t>(row * s.k + e)];
      sum *= static_cast<double>(scale[static_cast<std::size_t>(row)]) / 127;
      const double step = 2.0 / 127 * 0.5 * static_cast<double>(s.k) * 2;
      right = right && std::fabs(found[i * s.n + row] - sum) <= step;
    }
  }
  results.record(right, std::string(isa_name(isa)) + ": 8-bit linear " + std::to_string(m) + " x " +
                            std::to_string(s.n) + " x " + std::to_string(s.k));
}

// All ways that an instruction set has to multiply 8-bit codes; the one that it takes here comes first.
std::vector<Linear8bitKernels> ways_of(Isa isa) {
  std::vector<Linear8bitKernels> ways{linear_8bit_kernels(isa)};
#if defined(__aarch64__)
  if (isa == Isa::neon && part_available(Part::neon_dotprod)) ways.push_back(neon::linear_8bit_kernels);
#endif
  return ways;
}

// Every type, a bias and an addend, and the largest products that there are: -128 in the weight against
// inputs that become 127 or -127.
void test_8bit_forms(Isa isa, Results& results, DType type, bool largest) {
  constexpr i64 kM = 11, kN = 9, kK = 4099;
  Random random(31);
  Numbers x(random, kM * kK, type);
  std::vector<std::int8_t> weight(static_cast<std::size_t>(kN * kK), -128);
  if (largest) {
    for (std::size_t i = 0; i < x.values.size(); ++i) {
      x.values[i] = i / kK % 2 == 0 ? 1.0f : -1.0f;
      x.halves[i] = static_cast<u16>(bits_as(type, x.values[i]));
    }
  } else {
    for (std::int8_t& w : weight) w = static_cast<std::int8_t>(random.below(256) - 128);
  }
  const std::vector<float> scale = random_floats(random, kN), extra = random_floats(random, kM * kN);
  const Numbers bias(random, kN, type);
  const auto output = [&](const Linear8bitKernels& kernels) {
    Guarded<u8> out(kM * kN * bytes_of(type));
    kernels.forward(
        {x.data(), type, kM, kN, kK, weight.data(), scale.data(), bias.data(), extra.data(), out.data()}, 2);
    return out.intact() ? std::vector<u8>(out.data(), out.data() + kM * kN * bytes_of(type))
                        : std::vector<u8>{};
  };
  const std::vector<u8> expected = output(linear_8bit_kernels(Isa::scalar));
  int way = 0;
  for (const Linear8bitKernels& kernels : ways_of(isa)) {
    results.record(output(kernels) == expected, std::string(isa_name(isa)) + ": 8-bit linear, " +
                                                    type_name(type) + (largest ? ", largest products" : "") +
                                                    ", way " + std::to_string(way++));
  }
}

// As many columns as int32 holds the sums of, where what a sum is formed by need not fit.
void test_8bit_most(Isa isa, Results& results) {
  constexpr i64 kM = 9, kN = 5, kMost = 2147483647 / (127 * 127);
  const std::vector<float> x(static_cast<std::size_t>(kM * kMost), -1.0f), scale(kN, 1.0f);
  const std::vector<std::int8_t> weight(static_cast<std::size_t>(kN * kMost), -127);
  Guarded<float> found(kM * kN);
  linear_8bit_kernels(isa).forward(
      {x.data(), DType::f32, kM, kN, kMost, weight.data(), scale.data(), nullptr, nullptr, found.data()}, 1);
  constexpr float kStep = 1.0f / 127;
  const float expected = static_cast<float>(127 * 127 * kMost) * kStep * kStep;
  bool right = found.intact();
  for (i64 i = 0; i < kM * kN; ++i) right = right && found[i] == expected;
  results.record(right, std::string(isa_name(isa)) + ": 8-bit linear, the most columns");
}

}  // namespace

void test_linear(Isa isa, Results& results) {
  for (DType type : {DType::f32, DType::bf16, DType::f16}) {
    if (isa == Isa::scalar) break;  // what the others are compared with
    for (bool largest : {false, true}) test_8bit_forms(isa, results, type, largest);
  }
  test_8bit_most(isa, results);
  for (const Shape& s : kShapes) {
    for (i64 m : kInputs) {
      test_4bit(isa, results, s, m, DType::f32);
      test_4bit(isa, results, s, m, DType::bf16);
      test_4bit(isa, results, s, m, DType::f16);
      test_8bit(isa, results, s, m);
    }
  }
}

}  // namespace bittern::test
