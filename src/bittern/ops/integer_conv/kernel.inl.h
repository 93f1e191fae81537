// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set, after its products and its channels.

namespace {

// What is not worth several threads gets one.
int worth(const IntegerConv& c, int threads) {
  constexpr i64 kWorthThreads = i64{1} << 20;  // products, some five microseconds with VNNI
  const i64 products = c.kernel_h * c.kernel_w * c.channels / c.groups;
  return c.batch * c.out_height * c.out_width * c.out_channels * products < kWorthThreads ? 1 : threads;
}

void integer_conv(const IntegerConv& c, int threads) {
  if (c.batch * c.out_height * c.out_width == 0) return;
  threads = worth(c, threads);
  if (is_depthwise(c)) return convolve_channels(c, threads);
  convolve(c, threads);
}

i64 prepared_bytes(const IntegerConv& c) {
  return is_depthwise(c) ? channel_bytes(c) : product_bytes(c);
}

void prepare(const IntegerConv& c, const i8* w, const i32* given, void* weights, i32* rows) {
  (is_depthwise(c) ? prepare_channels : prepare_products)(c, w, given, weights, rows);
}

}  // namespace

const IntegerConvKernels integer_conv_kernels = {integer_conv, prepared_bytes, prepare};
