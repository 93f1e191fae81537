// SPDX-License-Identifier: Apache-2.0

// Numbers of packed nibbles, one at a time. Included inside namespace scalar.

namespace {

constexpr int kFewInputs = 2, kFewRows = 2;  // that are multiplied in registers together

struct Table16 {
  const float* values;
};
inline Table16 load_table(const float* values) {
  return {values};
}

// One word of eight codes.
struct Codes {
  u32 bits;
};
inline Codes load_codes(const u8* p, i64) {
  Codes codes;
  std::memcpy(&codes.bits, p, sizeof codes.bits);
  return codes;
}

// Code j of a word; the first element of a byte is in its high half.
constexpr int element_of(DType, int j, int lane) {
  return 8 * lane + (j ^ 1);
}
// A chunk of 8 kLanes numbers in lane order.
inline void order_chunk(DType type, const float* in, float* out) {
  for (int lane = 0; lane < static_cast<int>(kLanes); ++lane) {
    for (int j = 0; j < 8; ++j) out[j * kLanes + lane] = in[element_of(type, j, lane)];
  }
}

// The numbers of code j of each word.
inline F32 numbers(Table16 table, Codes codes, int j) {
  return table.values[codes.bits >> 4 * j & 15];
}

// p[0 .. count) spread evenly over the lanes; count is 1 where there is one lane.
struct Spread {
  explicit Spread(i64) {}
  F32 operator()(const float* p) const { return *p; }
};

inline F32 through_bf16(F32 x) {
  return widen(rounded_bf16(x));
}
inline F32 through_f16(F32 x) {
  return widen(narrow(x));
}

constexpr bool kScalesTables = false;  // before numbers are looked up in them
constexpr i64 kAhead = 0;              // no codes are asked for before they are needed

template <DType kType>
struct As {};

inline float sum_of_lanes(F32 x) {
  return x;
}

}  // namespace
