// SPDX-License-Identifier: Apache-2.0

// quantize_blockwise, dequantize_blockwise and optimizer_step: nearest codes by search, and every instruction
// set against the scalar one.

#include <cmath>

#include "harness.h"
#include "optimizer_step/kernel.h"
#include "quantize_blockwise/kernel.h"

namespace bittern::test {
namespace {

constexpr i64 kBlock = 256;
constexpr i64 kSizes[] = {1, 7, 63, 64, 65, 255, 256, 257, 1000, 4097};

// The code whose value is nearest to y; at a tie the one nearer zero.
int nearest(const TreeTables& tree, float y) {
  int best = 0;
  for (int code = 1; code < 256; ++code) {
    const double old_gap = std::fabs(static_cast<double>(y) - tree.values[best]);
    const double gap = std::fabs(static_cast<double>(y) - tree.values[code]);
    const bool nearer_zero = std::fabs(tree.values[code]) < std::fabs(tree.values[best]);
    if (gap < old_gap || (gap == old_gap && nearer_zero)) best = code;
  }
  return best;
}

std::vector<float> numbers(Random& random, i64 n, bool is_signed) {
  std::vector<float> x(static_cast<std::size_t>(n));
  for (float& value : x) {
    const float decade = std::pow(10.0f, static_cast<float>(random.below(9)) - 8.0f);
    value = random.below(8) == 0 ? 0.0f : random.uniform() * decade;
    if (!is_signed) value = std::fabs(value);
  }
  return x;
}

void test_trees(Isa isa, Results& results) {
  Random random(11);
  for (Code code : {Code::signed_tree8, Code::unsigned_tree8}) {
    const TreeTables& tree = tree_tables(code);
    CodeTable table;
    prepare_table(table, tree.values, 256, false);
    for (i64 n : kSizes) {
      const std::vector<float> x = numbers(random, n, tree.is_signed);
      const i64 blocks = ceil_div(n, kBlock);
      Guarded<u8> codes(n);
      Guarded<float> absmax(blocks), back(n);
      const QuantizeCall call{x.data(), DType::f32, n, kBlock, false, false, 0, codes.data(), absmax.data()};
      quantize_blockwise_kernels(isa).quantize(call, table, 1);
      const DequantizeCall inverse{codes.data(), absmax.data(), n, kBlock, false, DType::f32, back.data()};
      quantize_blockwise_kernels(isa).dequantize(inverse, table, 1);
      bool right = codes.intact() && absmax.intact() && back.intact();
      for (i64 i = 0; i < n; ++i) {
        const float largest = absmax[i / kBlock];
        const int expected =
            nearest(tree, largest > 0 ? x[static_cast<std::size_t>(i)] * (1.0f / largest) : 0.0f);
        right = right && codes[i] == expected && back[i] == tree.values[expected] * largest;
      }
      results.record(right, std::string(isa_name(isa)) + ": tree codes of " + std::to_string(n) + " numbers");
    }
  }
}

// One tensor with its states, stepped three times.
struct Stepped {
  std::vector<float> param, grad, floats;
  std::vector<u8> codes;
  std::vector<float> absmax;

  Stepped(i64 n, unsigned seed) {
    Random random(seed);
    param = numbers(random, n, true);
    grad = numbers(random, n, true);
    floats.assign(static_cast<std::size_t>(4 * n), 0.0f);
    codes.assign(static_cast<std::size_t>(4 * n), 0);
    absmax.assign(static_cast<std::size_t>(4 * ceil_div(n, kBlock)), 0.0f);
  }

  void run(Isa isa, Rule rule, i64 bits) {
    const i64 n = static_cast<i64>(param.size());
    StepTensor t{};
    t.param = param.data();
    t.grad = grad.data();
    for (i64 k = 0; k < 4; ++k) {
      const bool numbers = bits == 32 || is_exact(rule, k);
      t.state[k] = numbers ? static_cast<void*>(floats.data() + k * n) : codes.data() + k * n;
      t.absmax[k] = absmax.data() + k * ceil_div(n, kBlock);
    }
    t.numel = t.row = n;
    t.block = kBlock;
    t.bits = bits;
    float scalars[16];
    for (int i = 0; i < 16; ++i) scalars[i] = 0.5f + 0.03125f * static_cast<float>(i);
    const StepCall call{rule, &t, 1, scalars, 16, false, 0, 1, nullptr, nullptr, nullptr, 0, 0};
    for (int i = 0; i < 3; ++i) optimizer_step_kernels(isa).step(call);
  }

  bool equals(const Stepped& other) const {
    const auto same = [](const std::vector<float>& a, const std::vector<float>& b) {
      return std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0;
    };
    return same(param, other.param) && same(floats, other.floats) && same(absmax, other.absmax) &&
           codes == other.codes;
  }
};

void test_steps(Isa isa, Results& results) {
  for (int rule = 0; rule < static_cast<int>(Rule::count); ++rule) {
    for (i64 bits : {32, 8, 4}) {
      for (i64 n : kSizes) {
        Stepped expected(n, 3), found(n, 3);
        expected.run(Isa::scalar, static_cast<Rule>(rule), bits);
        found.run(isa, static_cast<Rule>(rule), bits);
        results.record(found.equals(expected), std::string(isa_name(isa)) + ": rule " + std::to_string(rule) +
                                                   ", " + std::to_string(bits) + " bits, " +
                                                   std::to_string(n));
      }
    }
  }
}

}  // namespace

void test_codes(Isa isa, Results& results) {
  test_trees(isa, results);
  test_steps(isa, results);
}

}  // namespace bittern::test
