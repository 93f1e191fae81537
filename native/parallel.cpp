// SPDX-License-Identifier: Apache-2.0

// Work sharing: every participant has a stretch of neighbouring indices, the same one at every call of a
// size, so that what it wrote lies in its own caches when it reads it again; who has finished its own goes on
// with the others'. An atomic counter per stretch gives each index away once. Whoever runs the participants,
// libgomp or the pool below, adds only wake-up and waiting; an OpenMP team that turns out smaller than asked
// for (nested regions, limits) is therefore still correct.

#include "parallel.h"

#include <dlfcn.h>
#include <unistd.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <system_error>
#include <thread>

namespace bittern {
namespace {

constexpr i64 kCacheLine = 64;

struct Job {
  static constexpr int kMostStretches = 64;
  struct alignas(kCacheLine) Stretch {
    std::atomic<i64> next;
    i64 end;
  };

  Job(i64 tasks, int threads, Task task, void* context) : task_(task), context_(context) {
    stretches_ = threads < kMostStretches ? threads : kMostStretches;
    for (int k = 0; k < stretches_; ++k) {
      stretch_[k].next.store(tasks * k / stretches_, std::memory_order_relaxed);
      stretch_[k].end = tasks * (k + 1) / stretches_;
    }
  }

  void drain(int participant) {
    for (int k = 0; k < stretches_; ++k) {
      Stretch& s = stretch_[(participant + k) % stretches_];
      for (i64 i; (i = s.next.fetch_add(1, std::memory_order_relaxed)) < s.end;) task_(context_, i);
    }
  }

 private:
  Task task_;
  void* context_;
  int stretches_;
  Stretch stretch_[kMostStretches];
};

// A few threads that sleep between jobs. Never destroyed: its threads may outlive every static object.
class Pool {
 public:
  explicit Pool(pid_t owner) : owner_(owner) {}

  // After fork() the child has this object but none of its threads.
  bool belongs_to(pid_t pid) const { return owner_ == pid; }

  // False, without having run anything, when another thread is using the pool.
  bool run(Job& job, int threads) {
    std::unique_lock<std::mutex> exclusive(busy_, std::try_to_lock);
    if (!exclusive.owns_lock()) return false;
    start_workers(threads - 1);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      job_ = &job;
      invited_ = threads - 1 < workers_ ? threads - 1 : workers_;
      active_ = invited_;
      ++generation_;
    }
    wake_.notify_all();
    job.drain(0);
    std::unique_lock<std::mutex> lock(mutex_);
    finished_.wait(lock, [this] { return active_ == 0; });
    return true;
  }

 private:
  void start_workers(int wanted) {
    while (workers_ < wanted) {
      try {
        std::thread(&Pool::work, this, workers_, generation_).detach();
      } catch (const std::system_error&) {
        return;  // the system gives no more threads: go on with those we have
      }
      ++workers_;
    }
  }

  void work(int index, u64 seen) {
    for (;;) {
      Job* job = nullptr;
      {
        std::unique_lock<std::mutex> lock(mutex_);
        wake_.wait(lock, [&] { return generation_ != seen; });
        seen = generation_;
        if (index >= invited_) continue;
        job = job_;
      }
      job->drain(index + 1);
      std::lock_guard<std::mutex> lock(mutex_);
      if (--active_ == 0) finished_.notify_one();
    }
  }

  const pid_t owner_;
  std::mutex busy_;  // held for the whole of run()
  std::mutex mutex_;
  std::condition_variable wake_, finished_;
  Job* job_ = nullptr;
  u64 generation_ = 0;
  int workers_ = 0, invited_ = 0, active_ = 0;
};

std::atomic<Pool*> own_pool{nullptr};

Pool& pool_of(pid_t pid) {
  Pool* pool = own_pool.load(std::memory_order_acquire);
  while (pool == nullptr || !pool->belongs_to(pid)) {
    Pool* fresh = new Pool(pid);
    if (own_pool.compare_exchange_strong(pool, fresh, std::memory_order_acq_rel)) return *fresh;
    delete fresh;
  }
  return *pool;
}

// libgomp's entry point for a `#pragma omp parallel` region.
using GompParallel = void (*)(void (*body)(void*), void* data, unsigned threads, unsigned flags);
std::atomic<GompParallel> gomp_parallel{nullptr};
// Which thread of its team the caller is.
using GompThread = int (*)();
std::atomic<GompThread> gomp_thread{nullptr};
// The process that adopted it. libgomp cannot start a region in a forked child when its threads stayed behind
// in the parent, and whether it has run one cannot be asked; a child uses its own pool.
std::atomic<pid_t> openmp_owner{0};

void drain_job(void* job) {
  static_cast<Job*>(job)->drain(gomp_thread.load(std::memory_order_relaxed)());
}

}  // namespace

void parallel_for(i64 tasks, int threads, Task task, void* context) noexcept {
  if (threads > tasks) threads = static_cast<int>(tasks);
  if (threads <= 1) {
    for (i64 i = 0; i < tasks; ++i) task(context, i);
    return;
  }
  Job job(tasks, threads, task, context);
  const pid_t pid = getpid();
  const GompParallel openmp = gomp_parallel.load(std::memory_order_acquire);
  if (openmp != nullptr && openmp_owner.load(std::memory_order_relaxed) == pid) {
    openmp(drain_job, &job, static_cast<unsigned>(threads), 0);
  } else if (!pool_of(pid).run(job, threads)) {
    job.drain(0);
  }
}

bool adopt_openmp(const char* path) {
  void* library = dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
  if (library == nullptr) return false;
  void *symbol = dlsym(library, "GOMP_parallel"), *number = dlsym(library, "omp_get_thread_num");
  if (symbol == nullptr || number == nullptr) {
    dlclose(library);
    return false;
  }
  gomp_thread.store(reinterpret_cast<GompThread>(number), std::memory_order_relaxed);
  openmp_owner.store(getpid(), std::memory_order_relaxed);
  gomp_parallel.store(reinterpret_cast<GompParallel>(symbol), std::memory_order_release);
  return true;
}

const char* pool_name() {
  return gomp_parallel.load() != nullptr ? "openmp" : "native";
}

}  // namespace bittern
