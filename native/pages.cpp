// SPDX-License-Identifier: Apache-2.0
#include "pages.h"

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace bittern {

void prefer_huge_pages(void* memory, i64 bytes) noexcept {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  constexpr i64 kHuge = i64{2} << 20, kLeast = 2 * kHuge;
  if (bytes < kLeast) return;
  const i64 start = round_up(reinterpret_cast<std::intptr_t>(memory), kHuge);
  const i64 end = (reinterpret_cast<std::intptr_t>(memory) + bytes) / kHuge * kHuge;
  // may fail, e.g. where the kernel has no huge pages: then nothing changes
  if (end > start)
    (void)madvise(reinterpret_cast<void*>(start), static_cast<std::size_t>(end - start), MADV_HUGEPAGE);
#else
  (void)memory, (void)bytes;
#endif
}

}  // namespace bittern
