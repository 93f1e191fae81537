#include "kernel.h"
#include "parallel.h"

namespace bittern::avx512 {
#include "kernel.inl.h"
}  // namespace bittern::avx512
