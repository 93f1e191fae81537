// SPDX-License-Identifier: Apache-2.0

#include "channels_neon.inl.h"

#include "channels.inl.h"
