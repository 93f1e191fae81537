// SPDX-License-Identifier: Apache-2.0

// Large fresh memory costs more to map, page by page, than to fill.
#pragma once

#include "types.h"

namespace bittern {

// Asks for huge pages (2 MiB) under a large buffer that is about to be written for the first time. A hint:
// the contents and the result are the same without it.
void prefer_huge_pages(void* memory, i64 bytes) noexcept;

}  // namespace bittern
