// SPDX-License-Identifier: Apache-2.0

// From sums to int8. Included inside the namespace of one instruction set, after its fixed-point numbers.

namespace {

constexpr int kUnitLanes = static_cast<int>(kIntegerUnit / kFixedLanes);

// Numbers behind the sums of a unit of output channels.
struct UnitRows {
  const i32 *bias, *multiplier, *shift;
};

inline UnitRows rows_of(const IntegerConv& c, i64 first) {
  const i64 pitch = integer_outputs(c);
  return {c.rows + first, c.rows + pitch + first, c.rows + 2 * pitch + first};
}

inline void finish_any(const IntegerConv& c, const UnitRows& rows, const i32* sums, i8* to) {
  const bool once = c.ending == static_cast<i64>(IntegerEnding::rounded_once);
  for (i64 i = 0; i < kIntegerUnit; ++i) {
    const i32 sum = static_cast<i32>(static_cast<u32>(sums[i]) + static_cast<u32>(rows.bias[i]));
    const i64 y = once ? scaled_once(sum, rows.multiplier[i], rows.shift[i])
                       : scaled(sum, rows.multiplier[i], rows.shift[i]);
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

// Sums of `pixels` pixels, `sum_step` numbers apart, to the first `count` numbers of a unit, `step` bytes
// from one pixel to the next.
inline void finish(const IntegerConv& c, const UnitRows& rows, const i32* sums, i64 pixels, i8* out, i64 step,
                   i64 count, i64 sum_step = kIntegerUnit) {
  i8 buffer[kIntegerUnit];
  if (c.ending != static_cast<i64>(IntegerEnding::rounded_twice)) {
    for (i64 p = 0; p < pixels; ++p, sums += sum_step, out += step) {
      finish_any(c, rows, sums, buffer);
      copy_some(out, buffer, count);
    }
    return;
  }
  const Limits limits = limits_of(c.out_zero, c.low, c.high);
  Factors f[kUnitLanes];
  Lanes bias[kUnitLanes];
  for (int v = 0; v < kUnitLanes; ++v) {
    f[v] = factors(rows.multiplier + v * kFixedLanes, rows.shift + v * kFixedLanes);
    bias[v] = load_lanes(rows.bias + v * kFixedLanes);
  }
  for (i64 p = 0; p < pixels; p += 2, sums += 2 * sum_step, out += 2 * step) {
    const bool both = p + 1 < pixels;  // else the same pixel twice
    const i32* next = both ? sums + sum_step : sums;
    Lanes y[kUnitLanes], z[kUnitLanes];
    for (int v = 0; v < kUnitLanes; ++v) {
      y[v] = times(add_lanes(load_lanes(sums + v * kFixedLanes), bias[v]), f[v]);
      z[v] = times(add_lanes(load_lanes(next + v * kFixedLanes), bias[v]), f[v]);
    }
    if (count == kIntegerUnit) {
      store_limited(out, both ? out + step : out, y, z, limits);
      continue;
    }
    i8 second[kIntegerUnit];
    store_limited(buffer, second, y, z, limits);
    copy_some(out, buffer, count);
    if (both) copy_some(out + step, second, count);
  }
}

}  // namespace
