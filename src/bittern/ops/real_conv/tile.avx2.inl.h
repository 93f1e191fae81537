// SPDX-License-Identifier: Apache-2.0

// How much of the output stays in registers. Included inside the namespace of the instruction set.

constexpr int kMostUnits = 1, kFewUnits = 1, kPixels = 6;
