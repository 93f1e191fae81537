// SPDX-License-Identifier: Apache-2.0

// What the steps of a program touch, worked out from their numbers before they run: a fault in planning
// becomes an error that the caller sees, never a read or a write outside a buffer.
#pragma once

#include "binary_block/program.h"

namespace bittern {

// What is wrong with a step.
struct Misfit {
  const char* what = nullptr;  // null: nothing
  i64 needed = 0, given = 0;   // bytes, where `what` is a buffer
};

// Every number of the step is sound, and every buffer holds what the step touches of it.
Misfit misfit_of(Isa isa, const ProgramStep& step);

}  // namespace bittern
