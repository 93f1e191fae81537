// SPDX-License-Identifier: Apache-2.0

// A row of numbers in int8: code = round(x * (127 / absmax)), half to even.
// Included inside the namespace of one instruction set, after its simd header.

namespace {

constexpr float kLevels = 127.0f;
constexpr float kLeastAbsmax = 1.17549435e-38f;  // below it 127 / absmax might overflow

// One row of the input in int8.
struct InputRow {
  float factor;  // real value = code * factor; NaN for a row that is not finite
  i32 sum;       // of the codes
};

// |x| up to 2^22: the sum has its last bit at 1, so that rounding it rounds x, half to even.
inline float nearest_integer(float x) {
  constexpr float kBias = 12582912.0f;  // 1.5 * 2^23
  return (x + kBias) - kBias;
}

inline InputRow codes_of_row(const float* x, i64 n, std::int8_t* codes) {
  float absmax = 0;
  bool finite = true;
  for (i64 e = 0; e < n; ++e) {
    const float magnitude = __builtin_fabsf(x[e]);
    absmax = magnitude > absmax ? magnitude : absmax;
    finite &= magnitude <= 3.40282347e38f;
  }
  const float scale = finite && absmax >= kLeastAbsmax ? kLevels / absmax : 0.0f;
  i32 sum = 0;
  for (i64 e = 0; e < n; ++e) {
    const float code = scale == 0 ? 0.0f : nearest_integer(x[e] * scale);
    codes[e] = static_cast<std::int8_t>(code);
    sum += static_cast<i32>(code);
  }
  return {finite ? absmax * (1.0f / kLevels) : __builtin_nanf(""), sum};
}

}  // namespace
