// SPDX-License-Identifier: Apache-2.0

// Working memory of the calling thread that is kept between calls, because an allocation per call would cost
// more than a small layer.
#pragma once

#include "types.h"

namespace bittern {

// One purpose each; two buffers that live at the same time on one thread must use different slots.
enum class Scratch : int {
  pixels,
  tap_offsets,
  run_offsets,
  tap_rows,
  panel,
  counts,
  channel_counts,
  residual_row,
  correction,
  aligned_input,
  pad_row,
  padded_input,
  border_sums,
  border_classes,
  tail_rows,
  tile_pixels,
  tile_weights,
  plane_sums,
  plane_part,
  group_sums,
  limits,
  real_band,
  step,
  step_tasks,
  step_squares,
  step_ratios,
  linear_input,
  linear_panel,
  linear_sums,
  linear_rows,
  linear_groups,
  recurrent,
  slots
};

// At least `bytes` bytes, 64-byte aligned, contents undefined; valid until this thread asks for the same
// slot. Memory only grows, and is freed when the thread ends. Running out of memory ends the process with a
// message.
void* scratch(Scratch slot, i64 bytes);

template <class T>
static inline T* scratch_array(Scratch slot, i64 n) {
  return static_cast<T*>(scratch(slot, n * static_cast<i64>(sizeof(T))));
}

}  // namespace bittern
