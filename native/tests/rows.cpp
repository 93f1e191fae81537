// SPDX-License-Identifier: Apache-2.0

// real_linear against trees of sums written out.

#include <cmath>

#include "harness.h"
#include "real_linear/kernel.h"
#include "real_linear/order.h"

namespace bittern::test {
namespace {

// A tree of all products and, if asked for, the bias, such as chains that are added at once or at the end.
std::vector<i64> draw_tree(i64 features, bool bias, Random& random) {
  std::vector<i64> tree;
  i64 held = 0, left = features;
  const auto put = [&](TreePart part, i64 count) {
    tree.push_back(static_cast<i64>(part)), tree.push_back(count);
  };
  while (left > 0 || bias || held > 1) {
    const i64 count = smaller(left, random.pick({1, 2, 7, 1000}));
    switch (random.below(4)) {
      case 0:
        if (left == 0 || held == kMostSums) break;
        put(TreePart::start, count), left -= count, ++held;
        break;
      case 1:
        if (left == 0 || held == 0) break;
        put(TreePart::extend, count), left -= count;
        break;
      case 2:
        if (held > 1) put(TreePart::add, 0), --held;
        break;
      default:
        if (bias && held < kMostSums) put(TreePart::bias, 0), bias = false, ++held;
    }
  }
  return tree;
}

// One output. weights: [features, out_features], products in their order.
float naive_sum(const RealLinear& c, const std::vector<float>& weights, i64 row, i64 o) {
  std::vector<float> held;
  i64 taken = 0;
  for (i64 part = 0; part < c.parts; ++part) {
    const auto kind = static_cast<TreePart>(c.tree[2 * part]);
    if (kind == TreePart::add) {
      const float last = held.back();
      held.pop_back();
      held.back() += last;
      continue;
    }
    if (kind != TreePart::extend) held.push_back(kind == TreePart::bias ? c.bias[o] : 0);
    for (i64 i = 0; i < c.tree[2 * part + 1]; ++i, ++taken) {
      const i64 at = c.products == nullptr ? taken : c.products[taken];
      const float x = c.x[row * c.features + at],
                  w = weights[static_cast<std::size_t>(taken * c.out_features + o)];
      volatile float product = x * w;
      held.back() = c.fused != 0 ? std::fma(x, w, held.back()) : held.back() + product;
    }
  }
  return held.back();
}

void test_linear(Isa isa, Random& random, Results& results) {
  RealLinear c{};
  c.rows = random.pick({0, 1, 1, 2, 4, 9});
  c.features = random.pick({1, 7, 8, 63, 64, 65});
  c.out_features = random.pick({1, 10, 16, 17, 64, 100, 200});
  const i64 outputs = round_up(c.out_features, kRealUnit);
  const bool bias = random.below(2) != 0;
  const std::vector<i64> tree = draw_tree(c.features, bias, random);
  std::vector<float> x(static_cast<std::size_t>(c.rows * c.features + 1)),
      biases(static_cast<std::size_t>(outputs));
  for (float& value : x) value = random.uniform();
  for (float& value : biases) value = random.uniform();
  std::vector<i64> products(static_cast<std::size_t>(c.features));
  for (i64 i = 0; i < c.features; ++i) products[static_cast<std::size_t>(i)] = (i * 5 + 3) % c.features;
  std::vector<float> weights(static_cast<std::size_t>(c.features * c.out_features)),
      lanes(static_cast<std::size_t>(c.features * outputs), 0.0f);
  for (float& value : weights) value = random.uniform();
  for (i64 i = 0; i < c.features * c.out_features; ++i) {
    const i64 product = i / c.out_features, o = i % c.out_features;
    lanes[static_cast<std::size_t>((o / kRealUnit * c.features + product) * kRealUnit + o % kRealUnit)] =
        weights[static_cast<std::size_t>(i)];
  }
  c.x = x.data(), c.weights = lanes.data(), c.tree = tree.data(), c.parts = static_cast<i64>(tree.size() / 2);
  c.out_row = c.out_features, c.fused = random.below(2);
  c.bias = bias ? biases.data() : nullptr;
  c.products = random.below(2) != 0 ? products.data() : nullptr;
  for (int threads : {1, 3}) {
    Guarded<float> out(c.rows * c.out_features);
    c.out = out.data();
    real_linear_kernels(isa).linear(c, threads);
    bool good = out.intact() && has_sound_tree(c) && has_sound_products(c);
    for (i64 i = 0; i < c.rows * c.out_features; ++i) {
      good &= out[i] == naive_sum(c, weights, i / c.out_features, i % c.out_features);
    }
    results.record(good, std::string("real_linear ") + isa_name(isa) + " features " +
                             std::to_string(c.features) + " out " + std::to_string(c.out_features));
  }
}

}  // namespace

void test_rows(Isa isa, Results& results) {
  constexpr int kDrawn = 100;
  Random random(20261129);
  for (int i = 0; i < kDrawn; ++i) test_linear(isa, random, results);
}

}  // namespace bittern::test
