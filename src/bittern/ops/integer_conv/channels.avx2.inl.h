// SPDX-License-Identifier: Apache-2.0

#include "channels_ymm.inl.h"

#include "channels.inl.h"
