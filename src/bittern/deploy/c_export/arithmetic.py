# SPDX-License-Identifier: Apache-2.0
"""C functions of single numbers and words: count bits, multiply, fused multiply-add."""

from __future__ import annotations

from bittern.deploy.c_export.source import CFunction

POPCOUNT = CFunction(
    "bt_popcount",
    """\
#ifndef BITTERN_POPCOUNT32 /* define it to the instruction that the target has for it, if any */
#define BITTERN_POPCOUNT32(x) bt_popcount(x)
/* Number of ones: sums of 2, 4, 8 bits side by side, then of the four bytes by one product. */
static int32_t bt_popcount(uint32_t x)
{
    x = x - ((x >> 1) & 0x55555555u);
    x = (x & 0x33333333u) + ((x >> 2) & 0x33333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0fu;
    return (int32_t)((uint32_t)(x * 0x01010101u) >> 24);
}
#endif
""",
)

FMA = CFunction(
    "bt_fma",
    """\
/* x * a + b with a single rounding. Where fmaf is no instruction, some C libraries round it twice; there the product is
   taken in double, where it is exact, the sum is rounded to odd, and 53 >= 2 * 24 + 2 bits make the last rounding the
   only one. */
#if defined(FP_FAST_FMAF) || FLT_EVAL_METHOD != 0 || DBL_MANT_DIG < 53
static float bt_fma(float x, float a, float b)
{
    return fmaf(x, a, b);
}
#else
static float bt_fma(float x, float a, float b)
{
    const double product = (double)x * (double)a;
    const double addend = (double)b;
    double total = product + addend;
    const double rest = total - product;
    const double error = (product - (total - rest)) + (addend - rest); /* what the sum lost, exactly */
    uint64_t bits;
    memcpy(&bits, &total, sizeof bits);
    if ((error > 0.0 || error < 0.0) && (bits & 1u) == 0u) {
        bits = (error > 0.0) == (total > 0.0) ? bits + 1u : bits - 1u;
        memcpy(&total, &bits, sizeof bits);
    }
    return (float)total;
}
#endif
""",
    headers=("float.h", "math.h", "string.h"),
)

PRODUCT = CFunction(
    "bt_product",
    """\
/* a * b, rounded: volatile, because a compiler may otherwise fuse the product with a sum that comes later. */
static float bt_product(float a, float b)
{
    volatile float product = a * b;
    return product;
}
""",
)

SUM = CFunction(
    "bt_sum",
    """\
/* a + b, rounded: volatile, because some machines compute with more digits than a float has. */
static float bt_sum(float a, float b)
{
    volatile float sum = a + b;
    return sum;
}
""",
)
