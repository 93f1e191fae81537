// SPDX-License-Identifier: Apache-2.0

// Products of all gates. Included inside the namespace of one instruction set, after its fixed-point numbers
// and its products (Dot).
//
// Weights lie in units of 16 rows, in the order of the steps over features. A tile keeps the sums of some
// inputs by some units in registers.

namespace {

using Number = Dot::Number;

static_assert(kFixedLanes == Dot::kLanes, "sums and their factors lie side by side alike");
constexpr int kUnitVectors = static_cast<int>(kIntegerUnit / Dot::kLanes);
constexpr i64 kTogether = 4;  // inputs of a tile, where there are so many
constexpr int kUnitsOfOne = kUnitVectors < 8 ? 8 / kUnitVectors : 1;  // of a tile of one input
constexpr int kUnitsOfSome = Dot::kLanes == kIntegerUnit ? 4 : 1;     // of a tile of `kTogether`
constexpr i32 kWide = 1 << 17;  // what is larger takes a gate out of int16, whatever is added

inline i32 limited(i32 x, i32 low, i32 high) {
  return x < low ? low : x > high ? high : x;
}

i64 steps_of(const GateProduct& p) {
  return ceil_div(p.features, Dot::kPack);
}

// Numbers from one input to the next.
i64 pitch_of(const GateProduct& p) {
  return steps_of(p) * Dot::kPack;
}

i64 unit_bytes(const GateProduct& p) {
  return pitch_of(p) * kIntegerUnit;
}

void numbers_of(const GateProduct& p, const i8* x, Number* to) {
  const i32 centre = Dot::centre(p.zero);
  for (i64 i = 0; i < p.features; ++i) to[i] = static_cast<Number>(x[i] + centre);
}

template <int inputs, int units>
void tile(const GateProduct& p, const i8* w, const Number* x, i32* sums) {
  constexpr int vectors = units * kUnitVectors;
  const i64 steps = steps_of(p), pitch = pitch_of(p), unit = unit_bytes(p), row = gate_rows(p);
  Dot::Sum sum[inputs][vectors];
  for (int i = 0; i < inputs; ++i) {
    for (int v = 0; v < vectors; ++v) sum[i][v] = Dot::zero();
  }
  for (i64 s = 0; s < steps; ++s, w += kIntegerUnit * Dot::kPack, x += Dot::kPack) {
    decltype(Dot::weights(w)) read[vectors];
    for (int v = 0; v < vectors; ++v)
      read[v] = Dot::weights(w + v / kUnitVectors * unit + v % kUnitVectors * Dot::kLanes * Dot::kPack);
    for (int i = 0; i < inputs; ++i) {
      const auto number = Dot::spread(x + i * pitch);
      for (int v = 0; v < vectors; ++v) sum[i][v] = Dot::step(sum[i][v], read[v], number);
    }
  }
  for (int i = 0; i < inputs; ++i) {
    for (int v = 0; v < vectors; ++v) Dot::store(sums + i * row + v * Dot::kLanes, sum[i][v]);
  }
}

template <int inputs, int most>
void tiles(const GateProduct& p, const Number* x, i32* sums) {
  const i8* w = static_cast<const i8*>(p.weights);
  const i64 units = gate_rows(p) / kIntegerUnit;
  i64 u = 0;
  for (; u + most <= units; u += most)
    tile<inputs, most>(p, w + u * unit_bytes(p), x, sums + u * kIntegerUnit);
  for (; u < units; ++u) tile<inputs, 1>(p, w + u * unit_bytes(p), x, sums + u * kIntegerUnit);
}

template <class Rounded>
void scale_with(const GateProduct& p, i64 inputs, i32* sums) {
  const i64 row = gate_rows(p);
  for (i64 r = 0; r < row; r += kFixedLanes) {
    const Rounded rounded = Rounded::of(p.multipliers + r, p.shifts + r);
    const Lanes bias = load_lanes(p.bias + r);
    for (i64 i = 0; i < inputs; ++i) {
      i32* at = sums + i * row + r;
      Dot::store(at, rounded(add_lanes(load_lanes(at), bias)));
    }
  }
}

void scale_any(const GateProduct& p, i64 inputs, i32* sums) {
  for (i64 i = 0; i < inputs; ++i) {
    for (i64 r = 0; r < gate_rows(p); ++r) {
      i32& at = sums[i * gate_rows(p) + r];
      const i32 whole = static_cast<i32>(static_cast<u32>(at) + static_cast<u32>(p.bias[r]));
      at = static_cast<i32>(scaled(whole, p.multipliers[r], p.shifts[r]));
    }
  }
}

// Gates [inputs, gate_rows] of numbers [inputs, pitch], each between -kWide and kWide.
void gates_of(const GateProduct& p, const Number* x, i64 inputs, i32* gates) {
  i64 i = 0;
  for (; i + kTogether <= inputs; i += kTogether)
    tiles<kTogether, kUnitsOfSome>(p, x + i * pitch_of(p), gates + i * gate_rows(p));
  for (; i < inputs; ++i) tiles<1, kUnitsOfOne>(p, x + i * pitch_of(p), gates + i * gate_rows(p));
  switch (static_cast<IntegerEnding>(p.ending)) {
    case IntegerEnding::rounded_twice:
      scale_with<RoundedTwice>(p, inputs, gates);
      break;
    case IntegerEnding::raised:
      scale_with<RaisedAndRounded>(p, inputs, gates);
      break;
    default:
      scale_any(p, inputs, gates);
  }
  for (i64 g = 0; g < inputs * gate_rows(p); ++g) gates[g] = limited(gates[g], -kWide, kWide);
}

i64 prepared_bytes(const GateProduct& p) {
  return gate_rows(p) * pitch_of(p);
}

void prepare(const GateProduct& p, const i8* w, void* weights, i32* bias) {
  i8* to = static_cast<i8*>(weights);
  for (i64 r = 0; r < gate_rows(p); ++r) {
    u32 sum = 0;
    for (i64 k = 0; k < pitch_of(p); ++k) {
      const i8 value = r < p.rows && k < p.features ? w[r * p.features + k] : i8{0};
      const i64 step = k / Dot::kPack * kIntegerUnit + r % kIntegerUnit;
      to[r / kIntegerUnit * unit_bytes(p) + step * Dot::kPack + k % Dot::kPack] = value;
      sum += static_cast<u32>(i32{value});
    }
    bias[r] =
        static_cast<i32>(static_cast<u32>(bias[r]) - static_cast<u32>(p.zero + Dot::centre(p.zero)) * sum);
  }
}

}  // namespace
