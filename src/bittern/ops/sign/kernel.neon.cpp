#include "kernel.h"
#include "parallel.h"

namespace bittern::neon {
#include "kernel.inl.h"
}  // namespace bittern::neon
