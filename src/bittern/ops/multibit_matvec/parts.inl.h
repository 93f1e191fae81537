// SPDX-License-Identifier: Apache-2.0

// Many inputs in parts, each first to integers, then to y. Included inside the namespace of one instruction
// set, after combine.inl.h.

namespace {

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

void combine_part(const Part& part, int threads) {
  constexpr i64 kWorthThreads = i64{1} << 15;  // integers
  const MultibitMatvec& job = *part.job;
  const i64 integers = part.count * job.planes * job.weight.planes * job.weight.rows;
  parallel_for(part.count * part.pieces, integers <= kWorthThreads ? 1 : threads, combine_task,
               const_cast<Part*>(&part));
}

// count(part) fills the integers of a part. These stay in the second cache, and a part is large enough to
// read the weights seldom.
template <class Count>
void multiply_in_parts(const MultibitMatvec& job, int threads, const Count& count) {
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
    const Part part{&job, first, end - first, acc, ceil_div(w.rows, kPieceRows)};
    count(part);
    combine_part(part, threads);
  }
}

}  // namespace
