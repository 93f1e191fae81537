// SPDX-License-Identifier: Apache-2.0

// All planes of the weight are the output channels of one binary product, all planes of the inputs its
// pixels: so weights are read once, by the kernels of binary_conv2d. Included inside the namespace of one
// instruction set, after combine.inl.h.

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

// Inputs [first, first + count) of a job: acc [planes of x][count][planes of w][rows]
struct Part {
  const MultibitMatvec* job;
  i64 first, count;
  i32* acc;
  i64 pieces;  // of an input's rows
};

constexpr i64 kPieceRows = 1024;

void combine_task(void* context, i64 index) {
  const auto& part = *static_cast<const Part*>(context);
  const MultibitMatvec& job = *part.job;
  const MultibitWeight& w = job.weight;
  const i64 input = index / part.pieces, first = index % part.pieces * kPieceRows;
  const i64 outputs = w.planes * w.rows;
  combine({part.acc + input * outputs + first, part.count * outputs, w.rows, job.w_scale + first, w.rows,
           job.x_scale + (part.first + input) * job.planes, job.bias == nullptr ? nullptr : job.bias + first,
           job.planes, w.planes, job.out + (part.first + input) * w.rows + first},
          smaller(kPieceRows, w.rows - first));
}

void multiply_part(const Part& part, const BinaryConv2dKernels& products, int threads) {
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
  constexpr i64 kWorthThreads = i64{1} << 15;  // integers
  const i64 integers = part.count * job.planes * conv.out_channels;
  parallel_for(part.count * part.pieces, integers <= kWorthThreads ? 1 : threads, combine_task,
               const_cast<Part*>(&part));
}

// In parts whose integers stay in the second cache, and that are large enough to read the weights seldom.
void multiply_products(const MultibitMatvec& job, const BinaryConv2dKernels& products, int threads) {
  constexpr i64 kIntegers = i64{1} << 17, kLeastPixels = 64;
  const MultibitWeight& w = job.weight;
  if (job.batch == 0 || w.rows == 0) return;
  const i64 of_input = job.planes * w.planes * w.rows;
  const i64 least = ceil_div(kLeastPixels, job.planes);
  const i64 most = smaller(job.batch, larger(least, kIntegers / of_input));
  const i64 parts = ceil_div(job.batch, most);
  i32* acc = scratch_array<i32>(Scratch::linear_sums, most * of_input);
  for (i64 p = 0; p < parts; ++p) {
    const i64 first = p * job.batch / parts, end = (p + 1) * job.batch / parts;
    multiply_part({&job, first, end - first, acc, ceil_div(w.rows, kPieceRows)}, products, threads);
  }
}

}  // namespace
