// SPDX-License-Identifier: Apache-2.0

#include "fixed_ymm.inl.h"
