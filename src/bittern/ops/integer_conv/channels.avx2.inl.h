// SPDX-License-Identifier: Apache-2.0

#include "channels.inl.h"
