// SPDX-License-Identifier: Apache-2.0

#include "fixed.neon.inl.h"
