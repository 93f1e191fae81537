// SPDX-License-Identifier: Apache-2.0

#include "channels_zmm.inl.h"
