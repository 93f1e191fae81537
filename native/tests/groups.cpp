// SPDX-License-Identifier: Apache-2.0

// linear_groups: every instruction set against sums in float64, and with inputs in int8 against the scalar
// set, bit by bit.

#include <cmath>

#include "harness.h"
#include "linear_groups/kernel.h"
#include "numbers.h"

namespace bittern::test {
namespace {

struct Shape {
  i64 n, k, group;
};
constexpr Shape kShapes[] = {{5, 64, 32}, {33, 300, 128}, {17, 70, 96}, {130, 100, 64}, {3, 2080, 2080}};
constexpr i64 kInputs[] = {1, 2, 3, 6, 13};
constexpr int kBits[] = {2, 3, 4, 8};

// Words of random bits are codes like any others. Scales are f32 or f16, zero points none, u8 or f32.
struct Weight {
  std::vector<u32> codes;
  std::vector<float> scale, zero;
  std::vector<u16> half_scale;
  std::vector<u8> byte_zero;
  WeightGroups view;

  Weight(Random& random, const Shape& s, int bits, int form) {
    view = {nullptr, bits, nullptr, form % 2 == 1, nullptr, form / 2 == 1, s.group, s.n, s.k};
    const i64 factors = view.row_tiles() * view.groups() * kTileRows;
    for (i64 i = 0; i < view.row_tiles() * view.column_tiles() * bits * kTileRows; ++i)
      codes.push_back(static_cast<u32>(random.word()));
    for (i64 i = 0; i < factors; ++i) {
      scale.push_back(rounded(view.half_scale ? DType::f16 : DType::f32, random.uniform()));
      half_scale.push_back(static_cast<u16>(bits_as(DType::f16, scale.back())));
      byte_zero.push_back(static_cast<u8>(random.below(i64{1} << bits)));
      zero.push_back(view.byte_zero ? byte_zero.back() : random.uniform());
    }
    view.codes = codes.data();
    view.scale = view.half_scale ? static_cast<const void*>(half_scale.data()) : scale.data();
    if (form / 2 == 0) zero.assign(zero.size(), static_cast<float>(1 << (bits - 1)));
    if (form / 2 == 1) view.zero = byte_zero.data();
    if (form / 2 == 2) view.zero = zero.data();
  }
  int code(i64 row, i64 column) const {
    const i64 tile = row / kTileRows * view.column_tiles() + column / kTileColumns, inside = column % 32;
    const auto field = [&](int first_word, int plane) {
      const i64 word = tile * view.bits + first_word + inside * plane / 32, place = inside % (32 / plane);
      const u32 bits = codes[static_cast<std::size_t>(word * kTileRows + row % kTileRows)];
      return static_cast<int>(bits >> (8 * (place % 4) + plane * (place / 4))) & ((1 << plane) - 1);
    };
    return view.bits == 3 ? field(0, 2) + 4 * field(2, 1) : field(0, view.bits);
  }
  double at(i64 row, i64 column) const {
    const i64 group = row / kTileRows * view.groups() + column / view.group;
    const std::size_t i = static_cast<std::size_t>(group * kTileRows + row % kTileRows);
    return static_cast<double>(scale[i]) * (code(row, column) - static_cast<double>(zero[i]));
  }
};

bool is_product(const Weight& w, const std::vector<float>& x, i64 m, const Guarded<float>& y) {
  bool right = y.intact();
  for (i64 i = 0; i < m; ++i) {
    for (i64 row = 0; row < w.view.n; ++row) {
      double sum = 0, size = 0;
      for (i64 e = 0; e < w.view.k; ++e) {
        const double product = x[static_cast<std::size_t>(i * w.view.k + e)] * w.at(row, e);
        sum += product;
        size += std::fabs(product);
      }
      right = right && std::fabs(y[i * w.view.n + row] - sum) <= 1e-5 * (size + (1 << w.view.bits));
    }
  }
  return right;
}

void test_groups_of(Isa isa, Results& results, const Shape& s, int bits, int form, i64 m) {
  Random random(static_cast<unsigned>(s.n * 1000 + s.k + 10 * m + bits));
  const Weight w(random, s, bits, form);
  std::vector<float> x(static_cast<std::size_t>(m * s.k));
  for (float& value : x) value = random.uniform();
  Guarded<float> real(m * s.n), exact(m * s.n), expected(m * s.n), weight(s.n * s.k);
  const LinearGroupsKernels& kernels = linear_groups_kernels(isa);
  kernels.real({x.data(), nullptr, real.data(), DType::f32, m}, w.view, 1);
  kernels.int8({x.data(), nullptr, exact.data(), DType::f32, m}, w.view, 1);
  kernels.decode(w.view, DType::f32, weight.data(), 1);
  linear_groups_kernels(Isa::scalar).int8({x.data(), nullptr, expected.data(), DType::f32, m}, w.view, 1);
  bool same = exact.intact(), decoded = weight.intact();
  for (i64 i = 0; i < m * s.n; ++i) same = same && exact[i] == expected[i];
  for (i64 i = 0; i < s.n * s.k; ++i)
    decoded = decoded && std::fabs(weight[i] - w.at(i / s.k, i % s.k)) <= 1e-6 * (2 << bits);
  const std::string name = std::string(isa_name(isa)) + ": groups, " + std::to_string(m) + " x " +
                           std::to_string(s.n) + " x " + std::to_string(s.k) + ", " + std::to_string(bits) +
                           " bits, form " + std::to_string(form);
  results.record(is_product(w, x, m, real), name);
  results.record(same, name + ", int8");
  results.record(decoded, name + ", weight");
}

}  // namespace

void test_groups(Isa isa, Results& results) {
  int form = 0;
  for (const Shape& s : kShapes) {
    for (int bits : kBits) {
      for (i64 m : kInputs) test_groups_of(isa, results, s, bits, form++ % 6, m);
    }
  }
}

}  // namespace bittern::test
