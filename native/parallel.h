// SPDX-License-Identifier: Apache-2.0

// The only place that runs threads.
#pragma once

#include "types.h"

namespace bittern {

using Task = void (*)(void* context, i64 index);

// Calls task(context, i) once for every i in [0, tasks), on at most `threads` threads, and returns when all
// are done. Tasks must not throw. One thread, or one task, runs inline.
void parallel_for(i64 tasks, int threads, Task task, void* context) noexcept;

// Shares the worker threads of an OpenMP runtime (libgomp) that the process has already loaded: two runtimes
// whose idle threads spin would take each other's cores. False: not loaded, or no libgomp; the own pool
// stays.
bool adopt_openmp(const char* path);

// "openmp" or "native".
const char* pool_name();

}  // namespace bittern
