// SPDX-License-Identifier: Apache-2.0
#include "runs.inl.h"
