// SPDX-License-Identifier: Apache-2.0

// integer_recurrent against loops over numbers, with tables that are no functions of use, so that a wrong
// entry is seen.

#include "integer_recurrent/kernel.h"

#include "integers.h"

namespace bittern::test {
namespace {

using i16 = std::int16_t;

i64 held(i64 x) {
  return std::min<i64>(std::max<i64>(x, -32768), 32767);
}

// x / 2^bits, halves away from zero.
i64 rounded(i64 x, i64 bits) {
  const i64 half = i64{1} << (bits - 1);
  return x < 0 ? -((-x + half) >> bits) : (x + half) >> bits;
}

// A product of gates with all that it reads.
struct Product {
  GateProduct numbers{};
  std::vector<i8> w;
  std::vector<i32> bias, multipliers, shifts;

  void draw_for(Random& random, i64 rows, i64 features) {
    numbers.rows = rows, numbers.features = features, numbers.zero = any_int8(random);
    numbers.ending = static_cast<i64>(random.below(3) == 0   ? IntegerEnding::rounded_twice_any
                                      : random.below(2) == 0 ? IntegerEnding::raised
                                                             : IntegerEnding::rounded_twice);
    const bool small = numbers.ending == static_cast<i64>(IntegerEnding::rounded_twice);
    w = draw(random, rows * features);
    for (i64 r = 0; r < gate_rows(numbers); ++r) {
      bias.push_back(r < rows ? static_cast<i32>(random.below(1 << 16) - (1 << 15)) : 0);
      multipliers.push_back(static_cast<i32>((i64{1} << 30) + random.below(i64{1} << 30)));
      shifts.push_back(static_cast<i32>(small ? random.pick({0, -1, -4}) : random.pick({4, 0, -5})));
    }
  }

  i64 gate(i64 row, const i8* x) const {
    i64 sum = bias[static_cast<std::size_t>(row)];
    for (i64 k = 0; k < numbers.features; ++k)
      sum += (x[k] - numbers.zero) * w[static_cast<std::size_t>(row * numbers.features + k)];
    return scaled(sum, multipliers[static_cast<std::size_t>(row)], shifts[static_cast<std::size_t>(row)]);
  }
};

// One step of one sample, h and c in place.
void step(const IntegerRecurrent& l, const Product& input, const Product& recurrent, const i8* x, i8* h,
          i16* c) {
  const i64 n = l.hidden;
  const std::vector<i8> before(h, h + n);
  const auto both = [&](i64 row) {
    return held(held(input.gate(row, x)) + recurrent.gate(row, before.data()));
  };
  for (i64 j = 0; j < n; ++j) {
    i64 fresh, kept, share;
    if (l.gated != 0) {
      const i64 own =
          rounded(l.logistic[both(j) + 32768] * held(recurrent.gate(2 * n + j, before.data())), 15);
      fresh = l.tanh[held(held(input.gate(2 * n + j, x)) + own) + 32768];
      kept = l.logistic[both(n + j) + 32768], share = 32767 - kept;
    } else {
      share = l.logistic[both(j) + 32768], kept = l.logistic[both(n + j) + 32768];
      fresh = l.tanh[both(2 * n + j) + 32768];
    }
    i64 state = held(rounded(kept * c[j], 15) + rounded(share * fresh, l.state_bits));
    if (l.clip != 0) state = std::min(std::max(state, -l.clip), l.clip);
    c[j] = static_cast<i16>(state);
    const i64 out =
        l.gated != 0 ? state : i64{l.logistic[both(3 * n + j) + 32768]} * l.tanh_of_state[state + 32768];
    const i64 y = scaled(out, l.multiplier, l.shift) + l.recurrent.zero;
    h[j] = static_cast<i8>(std::min(std::max(y, l.low), l.high));
  }
}

std::vector<i16> table(Random& random, i64 least) {
  std::vector<i16> found(1 << 16);
  for (i16& entry : found) entry = static_cast<i16>(least + random.below(32768 - least));
  return found;
}

}  // namespace

void test_recurrent(Isa isa, Results& results) {
  const IntegerRecurrentKernels& kernels = integer_recurrent_kernels(isa);
  Random random(16);
  const std::vector<i16> logistic = table(random, 0), tanh = table(random, -32767),
                         of_state = table(random, -32767);
  for (int number = 0; number < 40; ++number) {
    IntegerRecurrent l{};
    l.batch = random.pick({0, 1, 3, 4, 6}), l.steps = random.pick({1, 3, 4, 7});
    l.hidden = random.pick({1, 5, 16, 33}), l.gated = number % 2, l.reverse = random.below(2);
    l.state_bits = random.pick({15, 18, 21}), l.clip = l.gated != 0 ? 0 : random.pick({0, 900});
    l.multiplier = (i64{1} << 30) + random.below(i64{1} << 30);
    l.shift = l.gated != 0 ? random.pick({1, 0, -8}) : random.pick({2, -15, -22});
    l.low = -120, l.high = 127;
    const i64 features = random.pick({1, 4, 7, 40}), n = l.hidden, rows = (l.gated != 0 ? 3 : 4) * n;
    Product input, recurrent;
    input.draw_for(random, rows, features), recurrent.draw_for(random, rows, n);
    std::vector<i32> biases[2] = {input.bias, recurrent.bias};
    Guarded<i8> of_input(kernels.prepared_bytes(input.numbers)),
        of_recurrent(kernels.prepared_bytes(recurrent.numbers));
    kernels.prepare(input.numbers, input.w.data(), of_input.data(), biases[0].data());
    kernels.prepare(recurrent.numbers, recurrent.w.data(), of_recurrent.data(), biases[1].data());
    l.input = input.numbers, l.recurrent = recurrent.numbers;
    l.input.weights = of_input.data(), l.recurrent.weights = of_recurrent.data();
    l.input.bias = biases[0].data(), l.recurrent.bias = biases[1].data();
    l.input.multipliers = input.multipliers.data(), l.recurrent.multipliers = recurrent.multipliers.data();
    l.input.shifts = input.shifts.data(), l.recurrent.shifts = recurrent.shifts.data();
    l.logistic = logistic.data(), l.tanh = tanh.data(), l.tanh_of_state = of_state.data();
    const auto x = draw(random, l.batch * l.steps * features);
    auto first = draw(random, l.batch * n);
    std::vector<i16> start(static_cast<std::size_t>(l.batch * n));
    for (i16& value : start) value = static_cast<i16>(random.below(1 << 16) - (1 << 15));
    Guarded<i16> state(l.batch * n);
    Guarded<i8> out(l.batch * l.steps * n);
    if (l.batch != 0) std::memcpy(state.data(), start.data(), start.size() * sizeof(i16));
    const auto before = first;
    l.x = x.data(), l.first = before.data(), l.state = state.data(), l.out = out.data();
    kernels.run(l, 2);
    bool good = of_input.intact() && of_recurrent.intact() && state.intact() && out.intact();
    for (i64 b = 0; b < l.batch; ++b) {
      i8* h = first.data() + b * n;
      i16* c = start.data() + b * n;
      for (i64 t = 0; t < l.steps; ++t) {
        const i64 place = b * l.steps + (l.reverse != 0 ? l.steps - 1 - t : t);
        step(l, input, recurrent, x.data() + place * features, h, c);
        for (i64 j = 0; j < n; ++j) good = good && out[place * n + j] == h[j];
      }
      for (i64 j = 0; j < n; ++j) good = good && state[b * n + j] == c[j];
    }
    results.record(good, std::string("integer_recurrent ") + isa_name(isa) + " " + std::to_string(number) +
                             " hidden " + std::to_string(n) + " of " + std::to_string(features));
  }
}

}  // namespace bittern::test
