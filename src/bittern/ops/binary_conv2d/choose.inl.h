// SPDX-License-Identifier: Apache-2.0

// Which kernel takes a convolution, by its shape alone: the weights are laid out for it. Included last,
// inside the namespace of one instruction set.

namespace {

i64 chosen_bytes(const WeightShape& s) {
  if (is_depthwise(s)) return depthwise_bytes(s);
  return is_grouped(s) ? grouped_bytes(s) : prepared_bytes(s);
}

void prepare_chosen(const WeightShape& s, const u64* canonical, u8* prepared) {
  if (is_depthwise(s)) return prepare_depthwise(s, canonical, prepared);
  if (is_grouped(s)) return prepare_grouped(s, canonical, prepared);
  prepare_weights(s, canonical, prepared);
}

template <void (*otherwise)(const Conv2d&, int)>
void conv2d_chosen(const Conv2d& conv, int threads) {
  const WeightShape shape = weight_shape(conv);
  if (is_depthwise(shape)) return conv2d_depthwise(conv, threads);
  if (is_grouped(shape)) return conv2d_grouped(conv, threads);
  otherwise(conv, threads);
}

}  // namespace
