// SPDX-License-Identifier: Apache-2.0

// From sums to int8. Included inside the namespace of one instruction set, after its fixed-point numbers.

namespace {

constexpr int kUnitLanes = static_cast<int>(kIntegerUnit / kFixedLanes);

// Numbers behind the sums of a unit of output channels.
struct UnitRows {
  const i32 *bias, *multiplier, *shift, *nearly;
};

inline UnitRows rows_of(const IntegerConv& c, i64 first) {
  const i64 pitch = integer_outputs(c);
  return {c.rows + first, c.rows + pitch + first, c.rows + 2 * pitch + first, c.rows + 3 * pitch + first};
}

// Of sums with their biases, one at a time.
inline void finish_any(const IntegerConv& c, const UnitRows& rows, const i32* sums, i8* to) {
  const bool once = c.ending == static_cast<i64>(IntegerEnding::rounded_once_any);
  for (i64 i = 0; i < kIntegerUnit; ++i) {
    const i64 y = once ? scaled_once(sums[i], rows.multiplier[i], rows.shift[i])
                       : scaled(sums[i], rows.multiplier[i], rows.shift[i]);
    to[i] = static_cast<i8>(clamped(y + c.out_zero, c.low, c.high));
  }
}

inline void copy_some(i8* out, const i8* from, i64 count) {
  if (count == 8) {
    std::memcpy(out, from, 8);
  } else {
    for (i64 i = 0; i < count; ++i) out[i] = from[i];
  }
}

// Where finished numbers go: the first `count` of a unit, `step` bytes from one pixel to the next.
struct Finished {
  i8* out;
  i64 step, count;
};

template <class Rounded>
void finish_with(const IntegerConv& c, const UnitRows& rows, const i32* sums, i64 pixels, Finished to,
                 i64 sum_step) {
  const Limits limits = limits_of(c.out_zero, c.low, c.high);
  Rounded rounded[kUnitLanes];
  Lanes bias[kUnitLanes];
  for (int v = 0; v < kUnitLanes; ++v) {
    rounded[v] = Rounded::of(rows.multiplier + v * kFixedLanes, rows.shift + v * kFixedLanes);
    bias[v] = load_lanes(rows.bias + v * kFixedLanes);
  }
  i8 first[kIntegerUnit], second[kIntegerUnit];
  for (i64 p = 0; p < pixels; p += 2, sums += 2 * sum_step, to.out += 2 * to.step) {
    const bool both = p + 1 < pixels;  // else the same pixel twice
    const i32* next = both ? sums + sum_step : sums;
    Lanes y[kUnitLanes], z[kUnitLanes];
    for (int v = 0; v < kUnitLanes; ++v) {
      y[v] = rounded[v](add_lanes(load_lanes(sums + v * kFixedLanes), bias[v]));
      z[v] = rounded[v](add_lanes(load_lanes(next + v * kFixedLanes), bias[v]));
    }
    if (to.count == kIntegerUnit) {
      store_limited(to.out, both ? to.out + to.step : to.out, y, z, limits);
      continue;
    }
    store_limited(first, second, y, z, limits);
    copy_some(to.out, first, to.count);
    if (both) copy_some(to.out + to.step, second, to.count);
  }
}

// Sums of `pixels` pixels, `sum_step` numbers apart.
inline void finish(const IntegerConv& c, const UnitRows& rows, const i32* sums, i64 pixels, Finished to,
                   i64 sum_step = kIntegerUnit) {
  switch (static_cast<IntegerEnding>(c.ending)) {
    case IntegerEnding::rounded_twice:
      return finish_with<RoundedTwice>(c, rows, sums, pixels, to, sum_step);
    case IntegerEnding::raised:
      return finish_with<RaisedAndRounded>(c, rows, sums, pixels, to, sum_step);
    case IntegerEnding::rounded_once:
    case IntegerEnding::rounded_once_near:
      return finish_with<RoundedOnce>(c, rows, sums, pixels, to, sum_step);
    default:
      break;
  }
  i32 whole[kIntegerUnit];
  i8 buffer[kIntegerUnit];
  for (i64 p = 0; p < pixels; ++p, sums += sum_step, to.out += to.step) {
    for (i64 i = 0; i < kIntegerUnit; ++i)
      whole[i] = static_cast<i32>(static_cast<u32>(sums[i]) + static_cast<u32>(rows.bias[i]));
    finish_any(c, rows, whole, buffer);
    copy_some(to.out, buffer, to.count);
  }
}

}  // namespace
