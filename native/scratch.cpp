// SPDX-License-Identifier: Apache-2.0
#include "scratch.h"

#include <cstdio>
#include <cstdlib>

namespace bittern {
namespace {

constexpr i64 kAlignment = 64;  // a cache line, and the widest vector

struct Buffer {
  void* memory = nullptr;
  i64 capacity = 0;

  ~Buffer() { std::free(memory); }

  void grow(i64 bytes) {
    std::free(memory);
    capacity = round_up(bytes + bytes / 4, kAlignment);  // headroom: sizes of successive layers creep upward
    memory = std::aligned_alloc(static_cast<std::size_t>(kAlignment), static_cast<std::size_t>(capacity));
    if (memory != nullptr) return;
    std::fprintf(stderr, "bittern: cannot allocate %lld bytes of working memory\n",
                 static_cast<long long>(capacity));
    std::abort();
  }
};

thread_local Buffer buffers[static_cast<int>(Scratch::slots)];

}  // namespace

void* scratch(Scratch slot, i64 bytes) {
  Buffer& buffer = buffers[static_cast<int>(slot)];
  if (buffer.capacity < bytes || buffer.memory == nullptr) buffer.grow(larger(bytes, kAlignment));
  return buffer.memory;
}

}  // namespace bittern
