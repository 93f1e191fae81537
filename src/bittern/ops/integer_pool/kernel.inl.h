// SPDX-License-Identifier: Apache-2.0

// Included inside the namespace of one instruction set. Plain loops over channels, of which the compiler
// makes vectors.

namespace {

using i8 = std::int8_t;

constexpr i64 kTogether = 64;  // channels

// The part of a window along one dimension that lies inside.
struct Span {
  i64 begin, end;
};

Span span_of(i64 at, i64 stride, i64 pad, i64 kernel, i64 size) {
  const i64 begin = at * stride - pad;
  return {larger(begin, 0), smaller(begin + kernel, size)};
}

inline i8 limited(const IntegerPool& p, i32 y) {
  return static_cast<i8>(smaller(larger(y, p.low), p.high));
}

// Of some channels: `count` of them from x on.
void mean_of(const IntegerPool& p, const i8* x, const Span& rows, const Span& columns, i64 count, i8* out) {
  i32 sums[kTogether] = {};
  for (i64 row = rows.begin; row < rows.end; ++row) {
    for (i64 column = columns.begin; column < columns.end; ++column) {
      const i8* from = x + (row * p.width + column) * p.channels;
      for (i64 i = 0; i < count; ++i) sums[i] += from[i];
    }
  }
  const i32 inside = static_cast<i32>((rows.end - rows.begin) * (columns.end - columns.begin));
  for (i64 i = 0; i < count; ++i) {
    const i32 half = sums[i] > 0 ? inside / 2 : -(inside / 2);
    out[i] = limited(p, (sums[i] + half) / inside);
  }
}

void maximum_of(const IntegerPool& p, const i8* x, const Span& rows, const Span& columns, i64 count,
                i8* out) {
  i8 most[kTogether];
  for (i64 i = 0; i < count; ++i) most[i] = -128;
  for (i64 row = rows.begin; row < rows.end; ++row) {
    for (i64 column = columns.begin; column < columns.end; ++column) {
      const i8* from = x + (row * p.width + column) * p.channels;
      for (i64 i = 0; i < count; ++i) most[i] = from[i] > most[i] ? from[i] : most[i];
    }
  }
  for (i64 i = 0; i < count; ++i) out[i] = limited(p, most[i]);
}

void pool_row(void* context, i64 index) {
  const IntegerPool& p = *static_cast<const IntegerPool*>(context);
  const i8* x = p.x + index / p.out_height * p.height * p.width * p.channels;
  const Span rows = span_of(index % p.out_height, p.stride_h, p.pad_top, p.kernel_h, p.height);
  i8* out = p.out + index * p.out_width * p.channels;
  for (i64 column = 0; column < p.out_width; ++column, out += p.channels) {
    const Span columns = span_of(column, p.stride_w, p.pad_left, p.kernel_w, p.width);
    for (i64 c = 0; c < p.channels; c += kTogether) {
      const i64 count = smaller(kTogether, p.channels - c);
      (p.average != 0 ? mean_of : maximum_of)(p, x + c, rows, columns, count, out + c);
    }
  }
}

void integer_pool(const IntegerPool& p, int threads) {
  constexpr i64 kWorthThreads = i64{1} << 18;  // numbers
  if (p.batch * p.out_height * p.out_width * p.channels * p.kernel_h * p.kernel_w < kWorthThreads)
    threads = 1;
  parallel_for(p.batch * p.out_height, threads, pool_row, const_cast<IntegerPool*>(&p));
}

}  // namespace

const IntegerPoolKernels integer_pool_kernels = {integer_pool};
