// SPDX-License-Identifier: Apache-2.0

// Two dimensions matter: the one whose elements are neighbours in the source, and the one whose elements are
// neighbours in the result. Both are walked in small squares, so that a cache line is used whole on both
// sides.

#include "permute.h"

#include "parallel.h"

namespace bittern {
namespace {

constexpr i64 kSquare = 16;  // elements of 4 bytes that fill a cache line

struct Walk {
  const u8* source;
  u8* result;
  i64 element_bytes;
  i64 sizes[kRank], from[kRank], to[kRank];  // per dimension of the result: size, stride in source and result
  int across;                                // the other dimension of the squares
  i64 strips;                                // of kSquare along `across`
};

// Elements of a square that lie at (row, column) of the result.
template <class T>
void move_each(const T* in, T* out, const Walk& w, i64 rows, i64 columns) {
  const i64 pitch = w.to[w.across], step = w.from[w.across], jump = w.from[kRank - 1];
  for (i64 r = 0; r < rows; ++r) {
    for (i64 c = 0; c < columns; ++c) out[r * pitch + c] = in[r * step + c * jump];
  }
}

using Four = u32 __attribute__((vector_size(16)));

Four load_four(const u32* from) {
  Four v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}

// Four neighbours of the source in each of four columns -> four neighbours of the result in each of four
// rows.
void move_four(const u32* in, u32* out, i64 jump, i64 pitch) {
  const Four a = load_four(in), b = load_four(in + jump);
  const Four c = load_four(in + 2 * jump), d = load_four(in + 3 * jump);
  const Four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), cd = __builtin_shufflevector(c, d, 0, 4, 1, 5);
  const Four ef = __builtin_shufflevector(a, b, 2, 6, 3, 7), gh = __builtin_shufflevector(c, d, 2, 6, 3, 7);
  const Four rows[] = {
      __builtin_shufflevector(ab, cd, 0, 1, 4, 5), __builtin_shufflevector(ab, cd, 2, 3, 6, 7),
      __builtin_shufflevector(ef, gh, 0, 1, 4, 5), __builtin_shufflevector(ef, gh, 2, 3, 6, 7)};
  for (i64 r = 0; r < 4; ++r) __builtin_memcpy(out + r * pitch, &rows[r], sizeof rows[r]);
}

void move_square(const u32* in, u32* out, const Walk& w, i64 rows, i64 columns) {
  const i64 pitch = w.to[w.across], jump = w.from[kRank - 1];
  if (w.from[w.across] != 1) return move_each(in, out, w, rows, columns);
  const i64 whole_rows = rows / 4 * 4, whole = columns / 4 * 4;
  for (i64 r = 0; r < whole_rows; r += 4) {
    for (i64 c = 0; c < whole; c += 4) move_four(in + r + c * jump, out + r * pitch + c, jump, pitch);
  }
  move_each(in + whole * jump, out + whole, w, whole_rows, columns - whole);
  move_each(in + whole_rows, out + whole_rows * pitch, w, rows - whole_rows, columns);
}

void move_square(const u64* in, u64* out, const Walk& w, i64 rows, i64 columns) {
  move_each(in, out, w, rows, columns);
}

template <class T>
void move_row_of_squares(const Walk& w, i64 from, i64 to, i64 rows) {
  const T* in = reinterpret_cast<const T*>(w.source) + from;
  T* out = reinterpret_cast<T*>(w.result) + to;
  constexpr int last = kRank - 1;
  for (i64 c = 0; c < w.sizes[last]; c += kSquare) {
    move_square(in + c * w.from[last], out + c, w, rows, smaller(kSquare, w.sizes[last] - c));
  }
}

// One strip of one pair of outer indices.
void move_strip(void* context, i64 index) {
  const Walk& w = *static_cast<const Walk*>(context);
  const i64 first = index % w.strips * kSquare;
  i64 rest = index / w.strips, from = first * w.from[w.across], to = first * w.to[w.across];
  for (int d = 0; d < kRank - 1; ++d) {
    if (d == w.across) continue;
    from += rest % w.sizes[d] * w.from[d];
    to += rest % w.sizes[d] * w.to[d];
    rest /= w.sizes[d];
  }
  const i64 rows = smaller(kSquare, w.sizes[w.across] - first);
  if (w.element_bytes == static_cast<i64>(sizeof(u32))) {
    move_row_of_squares<u32>(w, from, to, rows);
  } else {
    move_row_of_squares<u64>(w, from, to, rows);
  }
}

// The dimension of the result along which the source is read in order. Where that is the last one, rows are
// copied and any other will do.
int dimension_across(const Walk& w) {
  for (int d = 0; d < kRank - 1; ++d) {
    if (w.sizes[d] > 1 && w.from[d] == 1) return d;
  }
  return kRank - 2;
}

}  // namespace

bool is_permutation(const Permutation& plan) {
  int seen = 0;
  for (i64 from : plan.order) {
    if (from < kRank) seen |= 1 << from;
  }
  const bool known = plan.element_bytes == i64{sizeof(u32)} || plan.element_bytes == i64{sizeof(u64)};
  return known && seen == (1 << kRank) - 1;
}

void permute(const Permutation& plan, const void* source, void* result, int threads) {
  Walk w{static_cast<const u8*>(source), static_cast<u8*>(result), plan.element_bytes, {}, {}, {}, 0, 0};
  i64 strides[kRank] = {}, stride = 1, tasks = 1;
  for (int d = kRank - 1; d >= 0; --d) {
    strides[d] = stride;
    stride *= plan.sizes[d];
  }
  stride = 1;
  for (int d = kRank - 1; d >= 0; --d) {
    w.sizes[d] = plan.sizes[plan.order[d]];
    w.from[d] = strides[plan.order[d]];
    w.to[d] = stride;
    stride *= w.sizes[d];
  }
  w.across = dimension_across(w);
  w.strips = ceil_div(w.sizes[w.across], kSquare);
  for (int d = 0; d < kRank - 1; ++d) tasks *= d == w.across ? w.strips : w.sizes[d];
  parallel_for(tasks, threads, move_strip, &w);
}

}  // namespace bittern
