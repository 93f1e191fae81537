// SPDX-License-Identifier: Apache-2.0

// The numbers behind the sums of an output. Included inside the namespace of one instruction set.

namespace {

// Column `at` of the rows: of an output channel, or of none (-1), less `offset`, which its sums have too
// much.
void fill_rows(const IntegerConv& c, const i32* given, i64 channel, u32 offset, i32* at) {
  const i64 pitch = integer_outputs(c);
  i32 bias = 0, multiplier = 0, shift = 0;
  if (channel >= 0) {
    bias = given[channel];
    multiplier = given[c.out_channels + channel];
    shift = given[2 * c.out_channels + channel];
  }
  const u32 power = static_cast<u32>(shift - 31 + 16 + 127) << 23;  // 2^(shift - 31 + 16) as float32
  float nearly;
  std::memcpy(&nearly, &power, sizeof nearly);
  nearly *= static_cast<float>(multiplier);
  at[0] = static_cast<i32>(static_cast<u32>(bias) - offset);
  at[pitch] = multiplier;
  at[2 * pitch] = shift;
  std::memcpy(at + 3 * pitch, &nearly, sizeof nearly);
}

}  // namespace
