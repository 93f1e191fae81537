// SPDX-License-Identifier: Apache-2.0

// Which kernel takes a convolution. The weights are laid out for it by their shape alone; those of few
// channels also for the kernel that takes images which do not suit. Included last, inside the namespace of
// one instruction set.

namespace {

i64 chosen_bytes(const WeightShape& s) {
  if (is_depthwise(s)) return depthwise_bytes(s);
  if (is_grouped(s)) return grouped_bytes(s);
  return (is_by_pixels(s) ? pixel_bytes(s) : 0) + prepared_bytes(s);
}

void prepare_chosen(const WeightShape& s, const u64* canonical, u8* prepared) {
  if (is_depthwise(s)) return prepare_depthwise(s, canonical, prepared);
  if (is_grouped(s)) return prepare_grouped(s, canonical, prepared);
  if (is_by_pixels(s)) {
    prepare_pixels(s, canonical, prepared);
    prepared += pixel_bytes(s);
  }
  prepare_weights(s, canonical, prepared);
}

template <void (*otherwise)(const Conv2d&, int)>
void conv2d_chosen(const Conv2d& conv, int threads) {
  const WeightShape shape = weight_shape(conv);
  if (is_depthwise(shape)) return conv2d_depthwise(conv, threads);
  if (is_grouped(shape)) return conv2d_grouped(conv, threads);
  if (!is_by_pixels(shape)) return otherwise(conv, threads);
  if (suits_pixels(conv)) return conv2d_pixels(conv, threads);
  Conv2d rest = conv;
  rest.weights += pixel_bytes(shape);
  otherwise(rest, threads);
}

}  // namespace
