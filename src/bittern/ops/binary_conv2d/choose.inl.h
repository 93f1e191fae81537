// SPDX-License-Identifier: Apache-2.0

// Which kernel takes a convolution, by its shape alone: the weights are laid out for it. Included last,
// inside the namespace of one instruction set.

namespace {

WeightShape weight_shape(const Conv2d& c) {
  return {c.out_channels, c.kernel_h * c.kernel_w, c.channels, c.groups};
}

i64 chosen_bytes(const WeightShape& s) {
  return is_depthwise(s) ? depthwise_bytes(s) : prepared_bytes(s);
}

void prepare_chosen(const WeightShape& s, const u64* canonical, u8* prepared) {
  if (is_depthwise(s)) return prepare_depthwise(s, canonical, prepared);
  prepare_weights(s, canonical, prepared);
}

template <void (*otherwise)(const Conv2d&, int)>
void conv2d_chosen(const Conv2d& conv, int threads) {
  if (is_depthwise(weight_shape(conv))) return conv2d_depthwise(conv, threads);
  otherwise(conv, threads);
}

}  // namespace
