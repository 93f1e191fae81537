// SPDX-License-Identifier: Apache-2.0

// parallel_for: every index exactly once; from several threads at once; in a forked child.

#include <dlfcn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <thread>

#include "harness.h"
#include "parallel.h"

namespace bittern::test {
namespace {

// True if every index was visited once.
bool visits_all(i64 tasks, int threads) {
  std::vector<std::atomic<int>> visits(static_cast<std::size_t>(tasks));
  for (auto& count : visits) count = 0;
  parallel_for(
      tasks, threads,
      [](void* context, i64 i) {
        ++(*static_cast<std::vector<std::atomic<int>>*>(context))[static_cast<std::size_t>(i)];
      },
      &visits);
  for (const auto& count : visits) {
    if (count != 1) return false;
  }
  return true;
}

bool visits_all_from_several_threads() {
  constexpr int kCallers = 4, kCalls = 200;
  std::atomic<int> good{0};
  std::vector<std::thread> callers;
  for (int i = 0; i < kCallers; ++i) {
    callers.emplace_back([&good] {
      for (int call = 0; call < kCalls; ++call) good += visits_all(50, 3);
    });
  }
  for (std::thread& caller : callers) caller.join();
  return good == kCallers * kCalls;
}

bool visits_all_in_a_child() {
  const pid_t child = fork();
  if (child == 0) _exit(visits_all(100, 3) ? 0 : 1);
  int status = 1;
  waitpid(child, &status, 0);
  return status == 0;
}

void test_pool(bool with_fork, Results& results) {
  const std::string pool = std::string("parallel_for, pool ") + pool_name();
  for (i64 tasks : {0, 1, 2, 5, 1000}) {
    for (int threads : {1, 2, 3, 8}) {
      results.record(visits_all(tasks, threads),
                     pool + ": " + std::to_string(tasks) + " tasks, " + std::to_string(threads) + " threads");
    }
  }
  results.record(visits_all_from_several_threads(), pool + ": several callers");
  if (with_fork) results.record(visits_all_in_a_child(), pool + ": forked child");
}

}  // namespace

void test_threads(bool with_fork, Results& results) {
  test_pool(with_fork, results);
  results.record(!adopt_openmp("libgomp-that-is-not-there.so"), "adopt_openmp: a library that is not loaded");
  results.record(std::string(pool_name()) == "native", "pool_name without OpenMP");
  // Torch brings its own libgomp; here the system's takes its place, if there is one.
  constexpr const char* kOpenmp = "libgomp.so.1";
  if (dlopen(kOpenmp, RTLD_NOW) == nullptr) {
    std::printf("threads: no %s here, so only the native pool was tried\n", kOpenmp);
    return;
  }
  results.record(adopt_openmp(kOpenmp) && std::string(pool_name()) == "openmp", "adopt_openmp");
  test_pool(with_fork, results);
}

}  // namespace bittern::test
