// SPDX-License-Identifier: Apache-2.0
#include "binary_block/real_pool.h"

#include <cstring>

#include "parallel.h"
#include "scratch.h"

namespace bittern {
namespace {

// A band of convolved rows is worked on while it lies in the second-level cache.
constexpr i64 kBandBytes = i64{256} << 10;

struct RealPoolJob {
  RealConv conv;  // laid out
  PoolImages pool;
  const RealConvKernels* convs;
  const PoolImagesKernels* pools;
  i64 row;        // floats
  i64 band_rows;  // rows of results that come from one band
  i64 rows_per_task, image_tasks;
};

// Rows [first, end) of an image of convolved numbers.
struct Rows {
  i64 first, end;
};

Rows rows_under(const PoolImages& p, i64 first, i64 end) {
  return {larger(0, first * p.stride_h - p.pad_h),
          smaller(p.height, (end - 1) * p.stride_h - p.pad_h + p.kernel_h)};
}

void convolve_rows(const RealPoolJob& job, i64 image, Rows rows, float* out) {
  if (rows.first >= rows.end) return;
  RealConv c = job.conv;
  c.batch = 1;
  c.x += image * c.x_image + rows.first * c.stride_h * c.x_row;
  c.out_height = rows.end - rows.first;
  c.out = out;
  job.convs->conv(c, 1);
}

void pool_rows(const RealPoolJob& job, i64 image, i64 first, i64 end, Rows rows, const float* band) {
  PoolImages p = job.pool;
  p.batch = 1;
  p.height = rows.end - rows.first;
  p.pad_h = rows.first - (first * p.stride_h - p.pad_h);
  p.out += (image * p.out_height + first) * p.out_width * p.channels;
  p.out_height = end - first;
  p.x = band;
  job.pools->pool(p, 1);
}

void real_pool_task(void* context, i64 index) {
  const auto& job = *static_cast<const RealPoolJob*>(context);
  const PoolImages& p = job.pool;
  const i64 image = index / job.image_tasks, start = index % job.image_tasks * job.rows_per_task;
  const i64 stop = smaller(p.out_height, start + job.rows_per_task);
  const i64 most = smaller(p.height, (job.band_rows - 1) * p.stride_h + p.kernel_h);
  float* band = scratch_array<float>(Scratch::real_band, most * job.row);
  Rows held{0, 0};
  for (i64 first = start; first < stop; first += job.band_rows) {
    const i64 end = smaller(stop, first + job.band_rows);
    const Rows rows = rows_under(p, first, end);
    const i64 kept = larger(0, held.end - larger(rows.first, held.first));  // windows overlap
    if (kept > 0) {
      std::memmove(band, band + (rows.first - held.first) * job.row,
                   static_cast<std::size_t>(kept * job.row) * sizeof(float));
    }
    convolve_rows(job, image, {rows.first + kept, rows.end}, band + kept * job.row);
    pool_rows(job, image, first, end, rows, band);
    held = rows;
  }
}

}  // namespace

void real_conv_pool(Isa isa, const RealConv& conv, const PoolImages& pool, int threads) {
  constexpr i64 kTasksPerThread = 2, kWorthThreads = i64{1} << 15;  // results
  if (pool.batch * pool.out_height * pool.out_width * pool.channels == 0) return;
  if (pool.batch * pool.out_height * pool.out_width * pool.channels < kWorthThreads) threads = 1;
  RealPoolJob job{};
  job.convs = &real_conv_kernels(isa);
  job.pools = &pool_images_kernels(isa);
  job.conv = job.convs->lay_out(conv, threads);
  job.pool = pool;
  job.row = conv.out_width * conv.out_channels;
  const i64 fitting = kBandBytes / larger(1, job.row * static_cast<i64>(sizeof(float)));
  job.band_rows = larger(1, (fitting - pool.kernel_h) / pool.stride_h + 1);
  const i64 tasks = threads > 1 ? ceil_div(kTasksPerThread * threads, pool.batch) : 1;
  job.rows_per_task = ceil_div(pool.out_height, tasks);
  job.image_tasks = ceil_div(pool.out_height, job.rows_per_task);
  parallel_for(pool.batch * job.image_tasks, threads, real_pool_task, &job);
}

}  // namespace bittern
