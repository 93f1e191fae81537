// SPDX-License-Identifier: Apache-2.0

// All planes of the weight are the output channels of one binary product, all planes of the inputs its
// pixels: so weights are read once, by the kernels of binary_conv2d. Included inside the namespace of one
// instruction set, after parts.inl.h.

namespace {

inline WeightShape shape_of(const MultibitWeight& w) {
  return {w.planes * w.rows, 1, w.n, 1};
}

i64 product_bytes(const MultibitWeight& w, const BinaryConv2dKernels& products) {
  return products.prepared_bytes(shape_of(w));
}

void prepare_products(const MultibitWeight& w, const BinaryConv2dKernels& products, const u64* canonical,
                      u8* prepared) {
  products.prepare_weights(shape_of(w), canonical, prepared);
}

void count_part(const Part& part, const BinaryConv2dKernels& products, int threads) {
  const MultibitMatvec& job = *part.job;
  const bool whole = part.count == job.batch;  // then planes of x follow each other
  Conv2d conv{};
  conv.batch = whole ? 1 : job.planes;
  conv.width = whole ? job.planes * job.batch : part.count;
  conv.channels = job.weight.n;
  conv.out_channels = job.weight.planes * job.weight.rows;
  conv.height = conv.kernel_h = conv.kernel_w = conv.stride_h = conv.stride_w = 1;
  conv.dilation_h = conv.dilation_w = conv.groups = 1;
  conv.input = job.x + part.first * job.weight.words();
  conv.input_image = job.batch * job.planes * job.weight.words() / conv.batch;
  conv.weights = job.weights;
  conv.output = part.acc;
  products.conv2d(conv, threads);
}

void multiply_products(const MultibitMatvec& job, const BinaryConv2dKernels& products, int threads) {
  multiply_in_parts(job, threads, [&](const Part& part) { count_part(part, products, threads); });
}

}  // namespace
