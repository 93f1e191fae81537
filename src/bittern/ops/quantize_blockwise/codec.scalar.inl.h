// SPDX-License-Identifier: Apache-2.0

// The block codecs of the scalar kernels.
#include "codec.inl.h"
