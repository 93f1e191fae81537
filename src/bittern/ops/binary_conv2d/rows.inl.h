// SPDX-License-Identifier: Apache-2.0

// Rows of pixels as streams of words, for convolutions whose input channels each meet few output channels.
// Included after kernel.inl.h, inside the namespace of one instruction set.
//
// With channels last, the words of a row of pixels are one stream, and those under a tap are the same stream,
// some words further on: a vector takes any kWords of them, whatever pixels they belong to. A stride over
// columns breaks that, so such rows are first divided into `stride` planes of columns (column x is number x /
// stride of plane x % stride); within one, neighbouring outputs look at neighbours.
//
// No padded copy is made. Output columns are divided into runs under which the same taps lie inside the
// image; a tap that lies outside reads a row of padding, and for a padding of 0 it is masked, so that it
// counts no difference. A run shorter than a vector (a border pixel with few words) is computed together with
// words of its neighbours, which are computed again afterwards: runs at the right from the last inward, then
// runs at the left from the first inward, then the longest. That needs a longest run of at least a vector,
// under which lies all that lies under the short one (then its taps are inside the image for every word that
// the vector reads). Where there is none, words go one by one.

namespace {

constexpr i64 kMostTaps = 126;  // what seven planes of bits can count, and compare with a limit one higher

// Output columns, and the kernel columns [first, last) that lie inside the image there.
struct Run {
  i64 begin, end, first, last;
  i64 from, words;  // of the row of outputs: what is computed
  bool wide;        // by vectors
};

struct Span {
  i64 first, last;
  i64 size() const { return last - first; }
};

struct RowPlan {
  Conv2d conv;
  i64 out_h, out_w, pixel_words, taps;
  const u64* input;
  i64 row_words, image_words;
  i64* columns;  // [kernel_w]: words from the stream of a row to that under a tap of it
  Run* runs;     // in the order of their work
  i64 run_count;
  const u64* pad_row;  // a stream of padding
  bool masked;         // whether taps outside count nothing
  i64 rows_per_task;
};

// What lies under the kernel for a run of a row: streams, and for each the mask of what counts.
struct Taps {
  const u64* streams[kMostTaps];
  u64 masks[kMostTaps];
  i64 missing;
};

// The part of a dimension of the kernel that lies inside the image.
Span inside_image(i64 position, i64 size, i64 kernel, i64 stride, i64 pad, i64 dilation) {
  const i64 start = position * stride - pad;
  if (start >= 0 && start + (kernel - 1) * dilation < size) return {0, kernel};
  const i64 last = start >= size ? 0 : smaller(kernel, (size - 1 - start) / dilation + 1);
  const i64 first = start >= 0 ? 0 : smaller(ceil_div(-start, dilation), last);
  return {first, last};
}

Span rows_inside(const Conv2d& c, i64 y) {
  return inside_image(y, c.height, c.kernel_h, c.stride_h, c.pad_h, c.dilation_h);
}

Span columns_inside(const Conv2d& c, i64 x) {
  return inside_image(x, c.width, c.kernel_w, c.stride_w, c.pad_w, c.dilation_w);
}

// ---- runs

// Runs from left to right; returns how many.
i64 find_runs(const RowPlan& plan, Run* runs) {
  i64 count = 0;
  for (i64 x = 0; x < plan.out_w; ++x) {
    const Span span = columns_inside(plan.conv, x);
    if (count > 0 && runs[count - 1].first == span.first && runs[count - 1].last == span.last) {
      ++runs[count - 1].end;
    } else {
      runs[count++] = {x, x + 1, span.first, span.last, 0, 0, false};
    }
  }
  return count;
}

// Says which words of the row are computed for a run. left: it lies left of the longest, or is it.
void place_run(const RowPlan& plan, const Run& longest, bool left, Run& run) {
  const i64 begin = run.begin * plan.pixel_words, end = run.end * plan.pixel_words;
  run.from = begin, run.words = end - begin;
  run.wide = run.words >= kWords;
  const bool room = (longest.end - longest.begin) * plan.pixel_words >= kWords &&
                    longest.first <= run.first && run.last <= longest.last;
  if (run.wide || !room) return;
  run.wide = true;
  run.words = kWords;
  if (!left) run.from = end - kWords;
}

void plan_row_runs(RowPlan& plan) {
  // Neither end of the part of the kernel that lies inside moves back as x grows.
  const i64 most = smaller(plan.out_w, 2 * plan.conv.kernel_w + 1);
  Run* found = scratch_array<Run>(Scratch::pixels, 2 * most);
  plan.run_count = find_runs(plan, found);
  i64 longest = 0;
  for (i64 i = 1; i < plan.run_count; ++i) {
    if (found[i].end - found[i].begin > found[longest].end - found[longest].begin) longest = i;
  }
  for (i64 i = 0; i < plan.run_count; ++i) place_run(plan, found[longest], i < longest, found[i]);
  Run* ordered = plan.runs = found + most;
  for (i64 i = plan.run_count - 1; i > longest; --i) *ordered++ = found[i];
  for (i64 i = 0; i <= longest; ++i) *ordered++ = found[i];
}

// ---- columns divided by the stride

struct SplitJob {
  const RowPlan* from;
  u64* out;
  i64 plane_words, row_words;
};

template <i64 words>
void split_pixels(const u64* in, i64 width, i64 stride, i64 plane_words, u64* out) {
  for (i64 plane = 0; plane < stride; ++plane) {
    u64* to = out + plane * plane_words;
    for (i64 x = plane; x < width; x += stride, to += words) {
      std::memcpy(to, in + x * words, words * sizeof(u64));
    }
  }
}

void split_any(const u64* in, i64 words, i64 width, i64 stride, i64 plane_words, u64* out) {
  for (i64 plane = 0; plane < stride; ++plane) {
    u64* to = out + plane * plane_words;
    for (i64 x = plane; x < width; x += stride, to += words) {
      std::memcpy(to, in + x * words, static_cast<std::size_t>(words) * sizeof(u64));
    }
  }
}

void split_row(void* context, i64 row) {
  const auto& job = *static_cast<const SplitJob*>(context);
  const RowPlan& plan = *job.from;
  const i64 height = plan.conv.height, width = plan.conv.width, stride = plan.conv.stride_w;
  const u64* in = plan.input + row / height * plan.image_words + row % height * plan.row_words;
  u64* out = job.out + row * job.row_words;
  switch (plan.pixel_words) {
    case 1:
      return split_pixels<1>(in, width, stride, job.plane_words, out);
    case 2:
      return split_pixels<2>(in, width, stride, job.plane_words, out);
    case 3:
      return split_pixels<3>(in, width, stride, job.plane_words, out);
    default:
      return split_any(in, plan.pixel_words, width, stride, job.plane_words, out);
  }
}

void plan_row_columns(RowPlan& plan, int threads) {
  const Conv2d& c = plan.conv;
  i64 plane_words = 0;
  if (c.stride_w > 1) {
    constexpr i64 kWorthThreads = i64{1} << 14;  // words
    plane_words = ceil_div(c.width, c.stride_w) * plan.pixel_words;
    const i64 rows = c.batch * c.height, row_words = c.stride_w * plane_words;
    SplitJob job{&plan, scratch_array<u64>(Scratch::padded_input, rows * row_words), plane_words, row_words};
    parallel_for(rows, rows * row_words > kWorthThreads ? threads : 1, split_row, &job);
    plan.input = job.out;
    plan.row_words = row_words;
    plan.image_words = c.height * row_words;
  }
  plan.columns = scratch_array<i64>(Scratch::tap_offsets, c.kernel_w);
  for (i64 kx = 0; kx < c.kernel_w; ++kx) {
    const i64 column = kx * c.dilation_w - c.pad_w;  // of output column 0
    const i64 plane = (column % c.stride_w + c.stride_w) % c.stride_w, at = (column - plane) / c.stride_w;
    plan.columns[kx] = plane * plane_words + at * plan.pixel_words;
  }
}

// ---- the plan

void plan_row_padding(RowPlan& plan) {
  const i64 words = plan.out_w * plan.pixel_words, used = plan.conv.channels % kWordBits;
  u64* row = scratch_array<u64>(Scratch::pad_row, words);
  const u64 full = plan.conv.pad_value > 0 ? ~u64{0} : 0;
  for (i64 i = 0; i < words; ++i) row[i] = full;
  if (used != 0) {
    for (i64 i = plan.pixel_words - 1; i < words; i += plan.pixel_words) row[i] &= (u64{1} << used) - 1;
  }
  plan.pad_row = row;
  plan.masked = plan.conv.pad_value == 0;
}

// One task for each thread, or two, because a thread may be held up; one in all where there is little to do.
void plan_row_tasks(RowPlan& plan, int threads) {
  constexpr i64 kWorthThreads = i64{1} << 14;  // words under taps
  const i64 rows = plan.conv.batch * plan.out_h;
  const bool large = rows * plan.out_w * plan.pixel_words * plan.taps > kWorthThreads;
  const i64 tasks = threads > 1 && large ? smaller(rows, 2 * threads) : 1;
  plan.rows_per_task = ceil_div(rows, tasks);
}

// False: there is nothing to compute.
bool plan_rows(RowPlan& plan, const Conv2d& c, int threads) {
  plan.conv = c;
  plan.taps = c.kernel_h * c.kernel_w;
  plan.out_h = out_extent(c.height, c.kernel_h, c.stride_h, c.pad_h, c.dilation_h);
  plan.out_w = out_extent(c.width, c.kernel_w, c.stride_w, c.pad_w, c.dilation_w);
  if (c.batch * plan.out_h * plan.out_w == 0) return false;
  plan.input = c.input;
  plan.pixel_words = ceil_div(c.channels, kWordBits);
  plan.row_words = c.input_row != 0 ? c.input_row : c.width * plan.pixel_words;
  plan.image_words = c.input_image != 0 ? c.input_image : c.height * plan.row_words;
  plan_row_columns(plan, threads);
  plan_row_runs(plan);
  plan_row_padding(plan);
  plan_row_tasks(plan, threads);
  return true;
}

i64 row_task_count(const RowPlan& plan) {
  return ceil_div(plan.conv.batch * plan.out_h, plan.rows_per_task);
}

// ---- one row

void find_taps(const RowPlan& plan, i64 image, i64 y, const Span& rows, const Run& run, Taps& taps) {
  const Conv2d& c = plan.conv;
  const u64* row = plan.input + image * plan.image_words + (y * c.stride_h - c.pad_h) * plan.row_words;
  i64 tap = 0;
  for (i64 ky = 0; ky < c.kernel_h; ++ky, row += c.dilation_h * plan.row_words) {
    const bool row_inside = ky >= rows.first && ky < rows.last;
    for (i64 kx = 0; kx < c.kernel_w; ++kx, ++tap) {
      const bool inside = row_inside && kx >= run.first && kx < run.last;
      taps.streams[tap] = inside ? row + plan.columns[kx] : plan.pad_row;
      taps.masks[tap] = inside ? ~u64{0} : 0;
    }
  }
  taps.missing = plan.masked ? plan.taps - rows.size() * (run.last - run.first) : 0;
}

}  // namespace
