// SPDX-License-Identifier: Apache-2.0

// From the integers of all pairs of planes to y, in the order of multibit_matvec/__init__.py. Included inside
// the namespace of one instruction set, after its simd header.

namespace {

// One input: the integers of plane j of x and plane i of w begin at acc + j * x_pitch + i * w_pitch; scale,
// bias and out are those of the first of `count` rows.
struct Combination {
  const i32* acc;
  i64 x_pitch, w_pitch;
  const float* w_scale;
  i64 scale_pitch;  // from plane to plane
  const float* x_scale;
  const float* bias;  // or null
  i64 x_planes, w_planes;
  float* out;
};

inline F32 combined_vector(const Combination& c, i64 row) {
  F32 total = splat(0.0f);
  for (i64 j = 0; j < c.x_planes; ++j) {
    const F32 of_x = splat(c.x_scale[j]);
    for (i64 i = 0; i < c.w_planes; ++i) {
      const F32 acc = to_float(load(c.acc + j * c.x_pitch + i * c.w_pitch + row));
      const F32 y = multiply(multiply(acc, load(c.w_scale + i * c.scale_pitch + row)), of_x);
      total = i + j == 0 ? y : add(total, y);
    }
  }
  return c.bias == nullptr ? total : add(total, load(c.bias + row));
}

inline float combined_number(const Combination& c, i64 row) {
  float total = 0;
  for (i64 j = 0; j < c.x_planes; ++j) {
    for (i64 i = 0; i < c.w_planes; ++i) {
      const float acc = static_cast<float>(c.acc[j * c.x_pitch + i * c.w_pitch + row]);
      const float y = acc * c.w_scale[i * c.scale_pitch + row] * c.x_scale[j];
      total = i + j == 0 ? y : total + y;
    }
  }
  return c.bias == nullptr ? total : total + c.bias[row];
}

inline void combine(const Combination& c, i64 count) {
  i64 row = 0;
  for (; row + kLanes <= count; row += kLanes) store(c.out + row, combined_vector(c, row));
  for (; row < count; ++row) c.out[row] = combined_number(c, row);
}

}  // namespace
