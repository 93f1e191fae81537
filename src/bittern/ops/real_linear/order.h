// SPDX-License-Identifier: Apache-2.0

// Whether the order of a row product is one: read before it runs, so that no number of it is believed.
#pragma once

#include "real_linear/kernel.h"

namespace bittern {

// The tree takes every product once, holds no more than kMostSums sums, and leaves one.
static inline bool has_sound_tree(const RealLinear& c) {
  i64 held = 0, taken = 0;
  for (i64 i = 0; i < c.parts; ++i) {
    const i64 count = c.tree[2 * i + 1];
    switch (static_cast<TreePart>(c.tree[2 * i])) {
      case TreePart::start:
      case TreePart::extend:
        if (count < 0 || count > c.features - taken) return false;
        taken += count;
        held += c.tree[2 * i] == static_cast<i64>(TreePart::start);
        break;
      case TreePart::bias:
        if (c.bias == nullptr) return false;
        ++held;
        break;
      case TreePart::add:
        if (held < 2) return false;
        --held;
        break;
      default:
        return false;
    }
    if (held < 1 || held > kMostSums) return false;
  }
  return held == 1 && taken == c.features;
}

// Every product is one of the row's.
static inline bool has_sound_products(const RealLinear& c) {
  bool inside = true;
  for (i64 i = 0; c.products != nullptr && i < c.features; ++i) {
    inside &= c.products[i] >= 0 && c.products[i] < c.features;
  }
  return inside;
}

}  // namespace bittern
