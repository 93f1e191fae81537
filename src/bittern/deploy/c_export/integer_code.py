# SPDX-License-Identifier: Apache-2.0
"""C functions of integers alone: fixed-point factors (`ops.fixed_point`) and what the kinds of `kinds.integer` compute.

Products and sums that may leave int32 are taken in int64; shifts are of numbers that are not negative, for C leaves the
others to the compiler.
"""

from __future__ import annotations

from bittern.deploy.c_export.few_bits_code import WEIGHTS, Weights
from bittern.deploy.c_export.source import CFunction
from bittern.deploy.c_export.window import SEEN

HIGH = CFunction(
    "bt_high",
    """\
/* a * b / 2^31, to the nearest, halves upward; saturated. */
static int32_t bt_high(int32_t a, int32_t b)
{
    const int64_t product = (int64_t)a * (int64_t)b;
    const int64_t nudge = product >= 0 ? (int64_t)1 << 30 : 1 - ((int64_t)1 << 30);
    const int64_t high = (product + nudge) / ((int64_t)1 << 31);
    return high > INT32_MAX ? INT32_MAX : (int32_t)high;
}
""",
)

LOWERED = CFunction(
    "bt_lowered",
    """\
/* x / 2^bits, to the nearest, halves away from zero; bits from 0 to 31. */
static int32_t bt_lowered(int32_t x, int32_t bits)
{
    const int32_t mask = (int32_t)(((uint32_t)1 << bits) - 1u);
    const int32_t floor = x >= 0 ? x >> bits : ~(~x >> bits);
    return floor + ((x & mask) > (mask >> 1) + (x < 0 ? 1 : 0) ? 1 : 0);
}
""",
)

RAISED = CFunction(
    "bt_raised",
    """\
/* x * 2^bits, saturated. */
static int32_t bt_raised(int32_t x, int32_t bits)
{
    const int64_t y = (int64_t)x * ((int64_t)1 << bits);
    return y > INT32_MAX ? INT32_MAX : (y < INT32_MIN ? INT32_MIN : (int32_t)y);
}
""",
)

SCALED = CFunction(
    "bt_scaled",
    """\
/* x * multiplier * 2^(shift - 31), rounded twice. */
static int32_t bt_scaled(int32_t x, int32_t multiplier, int32_t shift)
{
    return shift > 0 ? bt_high(bt_raised(x, shift), multiplier) : bt_lowered(bt_high(x, multiplier), -shift);
}
""",
    (HIGH, LOWERED, RAISED),
)

ENDED = CFunction(
    "bt_ended",
    """\
/* x + zero between two limits. */
static int8_t bt_ended(int64_t x, int32_t zero, int32_t low, int32_t high)
{
    const int64_t y = x + zero;
    return (int8_t)(y < low ? low : (y > high ? high : y));
}
""",
)

FACTORS = CFunction(
    "bt_factors",
    """\
typedef struct { /* y = zero + multiplier * 2^(shift - 31) * (sum + bias) between low and high, by channel */
    const int32_t *bias, *multiplier, *shift; /* bias: or NULL */
    int32_t once; /* rounds once, halves upward */
    int32_t zero, low, high;
} bt_factors;

static int8_t bt_of_sum(const bt_factors *f, int32_t channel, int32_t sum)
{
    const int32_t x = sum + (f->bias == NULL ? 0 : f->bias[channel]);
    if (f->once != 0) {
        const int32_t bits = 31 - f->shift[channel];
        const int64_t y = (int64_t)x * (int64_t)f->multiplier[channel] + ((int64_t)1 << (bits - 1));
        return bt_ended(y >= 0 ? y >> bits : ~(~y >> bits), f->zero, f->low, f->high);
    }
    return bt_ended(bt_scaled(x, f->multiplier[channel], f->shift[channel]), f->zero, f->low, f->high);
}
""",
    (SCALED, ENDED),
)


def _conv(weights: Weights) -> CFunction:
    return CFunction(
        f"bt_integer_conv{weights.suffix}",
        f"""\
/* x [channels][position], weight [out channels][inputs of its group][tap] -> y [out channels][position]. */
static void bt_integer_conv{weights.suffix}(const bt_window *w, const bt_factors *f, int32_t group_in,
    int32_t group_out, int32_t out_channels, const {weights.type} *weight, int32_t zero, const int8_t *x, int8_t *y)
{{
    const int32_t size = w->height * w->width, taps = w->kernel[0] * w->kernel[1];
    int32_t o, row, column, i, j, c;
    for (o = 0; o < out_channels; ++o) {{
        const int8_t *own = x + o / group_out * group_in * size;
        for (row = 0; row < w->out_height; ++row) {{
            for (column = 0; column < w->out_width; ++column) {{
                int32_t sum = 0;
                for (i = 0; i < w->kernel[0]; ++i) {{
                    for (j = 0; j < w->kernel[1]; ++j) {{
                        const int32_t seen = bt_seen(w, row, column, i, j);
                        const int32_t first = o * group_in * taps + i * w->kernel[1] + j;
                        for (c = 0; seen >= 0 && c < group_in; ++c) {{
                            sum += {weights.at("first + c * taps")} * (own[c * size + seen] - zero);
                        }}
                    }}
                }}
                *y++ = bt_of_sum(f, o, sum);
            }}
        }}
    }}
}}
""",
        (SEEN, FACTORS, *weights.needs),
    )


def _linear(weights: Weights) -> CFunction:
    return CFunction(
        f"bt_integer_linear{weights.suffix}",
        f"""\
static void bt_integer_linear{weights.suffix}(const bt_factors *f, int32_t inputs, int32_t outputs,
    const {weights.type} *weight, int32_t zero, const int8_t *x, int8_t *y)
{{
    int32_t o, i;
    for (o = 0; o < outputs; ++o) {{
        int32_t sum = 0;
        for (i = 0; i < inputs; ++i) {{
            sum += {weights.at("o * inputs + i")} * (x[i] - zero);
        }}
        y[o] = bt_of_sum(f, o, sum);
    }}
}}
""",
        (FACTORS, *weights.needs),
    )


CONVS = {bits: _conv(weights) for bits, weights in WEIGHTS.items()}
LINEARS = {bits: _linear(weights) for bits, weights in WEIGHTS.items()}
"""By the bits that a weight has in the file."""

SCALE = CFunction(
    "bt_scale",
    """\
typedef struct {
    int32_t zero, multiplier, shift;
} bt_scale;
""",
)

ADD = CFunction(
    "bt_integer_add",
    """\
/* scale: of a, of b, and of their sum. */
static void bt_integer_add(const bt_scale *scale, int32_t low, int32_t high, int32_t count, const int8_t *a,
    const int8_t *b, int8_t *y)
{
    int32_t i;
    for (i = 0; i < count; ++i) {
        const int32_t left = bt_scaled((a[i] - scale[0].zero) * 1048576, scale[0].multiplier, scale[0].shift);
        const int32_t right = bt_scaled((b[i] - scale[1].zero) * 1048576, scale[1].multiplier, scale[1].shift);
        y[i] = bt_ended(bt_scaled(left + right, scale[2].multiplier, scale[2].shift), scale[2].zero, low, high);
    }
}
""",
    (SCALE, SCALED, ENDED),
)

AVERAGE = CFunction(
    "bt_integer_average",
    """\
/* The mean of what a window sees of the image, halves away from zero. */
static void bt_integer_average(const bt_window *w, int32_t channels, int32_t low, int32_t high, const int8_t *x,
    int8_t *y)
{
    int32_t c, row, column, i, j;
    for (c = 0; c < channels; ++c) {
        for (row = 0; row < w->out_height; ++row) {
            for (column = 0; column < w->out_width; ++column) {
                int32_t sum = 0, count = 0;
                for (i = 0; i < w->kernel[0]; ++i) {
                    for (j = 0; j < w->kernel[1]; ++j) {
                        const int32_t seen = bt_seen(w, row, column, i, j);
                        sum += seen < 0 ? 0 : x[seen];
                        count += seen < 0 ? 0 : 1;
                    }
                }
                *y++ = bt_ended((sum > 0 ? sum + count / 2 : sum - count / 2) / count, 0, low, high);
            }
        }
        x += w->height * w->width;
    }
}
""",
    (SEEN, ENDED),
)

MAX = CFunction(
    "bt_integer_max",
    """\
static void bt_integer_max(const bt_window *w, int32_t channels, int32_t low, int32_t high, const int8_t *x, int8_t *y)
{
    int32_t c, row, column, i, j;
    for (c = 0; c < channels; ++c) {
        for (row = 0; row < w->out_height; ++row) {
            for (column = 0; column < w->out_width; ++column) {
                int32_t most = -128;
                for (i = 0; i < w->kernel[0]; ++i) {
                    for (j = 0; j < w->kernel[1]; ++j) {
                        const int32_t seen = bt_seen(w, row, column, i, j);
                        most = seen >= 0 && x[seen] > most ? x[seen] : most;
                    }
                }
                *y++ = bt_ended(most, 0, low, high);
            }
        }
        x += w->height * w->width;
    }
}
""",
    (SEEN, ENDED),
)

EXP = CFunction(
    "bt_integer_exp",
    """\
/* exp(x) of x <= 0 with 26 bits behind the point -> with 31 bits behind it: a series about -1/8 for the part of x in
   [-1/4, 0), times exp(-2^e) for the rest. */
static int32_t bt_integer_exp(int32_t x)
{
    static const int32_t powers[7] = {1672461947, 1302514674, 790015084, 290630308, 39332535, 720401, 242};
    const int32_t quarter = 1 << 24, part = (x & (quarter - 1)) - quarter;
    const int32_t t = part * 32 + (1 << 28), square = bt_high(t, t), cube = bt_high(square, t);
    const int32_t fourth = bt_lowered(bt_high(square, square), 2);
    const int32_t terms = bt_lowered(bt_high(fourth + cube, 715827883) + square, 1);
    int32_t y = 1895147668 + bt_high(t + terms, 1895147668), e;
    if (x == 0) {
        return INT32_MAX;
    }
    for (e = 0; e < 7; ++e) {
        if (((part - x) & (quarter << e)) != 0) {
            y = bt_high(y, powers[e]);
        }
    }
    return y;
}
""",
    (HIGH, LOWERED),
)

RECIPROCAL = CFunction(
    "bt_integer_reciprocal",
    """\
/* 1 / (1 + x) of x in [0, 1), both with 31 bits behind the point: three steps of Newton's method. */
static int32_t bt_integer_reciprocal(int32_t x)
{
    const int32_t half = (int32_t)(((int64_t)x + INT32_MAX + 1) / 2);
    int32_t y = 1515870810 + bt_high(half, -1010580540), step;
    for (step = 0; step < 3; ++step) {
        y += bt_raised(bt_high(y, (1 << 29) - bt_high(half, y)), 2);
    }
    return bt_raised(y, 1);
}
""",
    (HIGH, RAISED),
)

SOFTMAX = CFunction(
    "bt_integer_softmax",
    """\
/* Differences to the largest below `least` count as 0; the result is scale 1/256 about -128. */
static void bt_softmax_of_row(int32_t count, int32_t multiplier, int32_t shift, int32_t least, const int8_t *x,
    int8_t *y)
{
    int32_t i, most = x[0], total = 0, bits = 0;
    for (i = 1; i < count; ++i) {
        most = x[i] > most ? x[i] : most;
    }
    for (i = 0; i < count; ++i) {
        if (x[i] - most >= least) {
            total += bt_lowered(bt_integer_exp(bt_high(bt_raised(x[i] - most, shift), multiplier)), 12);
        }
    }
    while (bits < 31 && total >> bits != 0) {
        ++bits;
    }
    {
        const int64_t one = (int64_t)total * ((int64_t)1 << (32 - bits)) - ((int64_t)1 << 31);
        const int32_t reciprocal = bt_integer_reciprocal((int32_t)one);
        for (i = 0; i < count; ++i) {
            if (x[i] - most >= least) {
                const int32_t e = bt_integer_exp(bt_high(bt_raised(x[i] - most, shift), multiplier));
                y[i] = bt_ended(bt_lowered(bt_high(reciprocal, e), bits + 3), -128, -128, 127);
            } else {
                y[i] = -128;
            }
        }
    }
}

/* x [rows][count]. */
static void bt_integer_softmax(int32_t rows, int32_t count, int32_t multiplier, int32_t shift, int32_t least,
    const int8_t *x, int8_t *y)
{
    int32_t row;
    for (row = 0; row < rows; ++row) {
        bt_softmax_of_row(count, multiplier, shift, least, x + row * count, y + row * count);
    }
}
""",
    (EXP, RECIPROCAL, ENDED),
)

TABLE = CFunction(
    "bt_integer_table",
    """\
static void bt_integer_table(const int8_t *table, int32_t count, const int8_t *x, int8_t *y)
{
    int32_t i;
    for (i = 0; i < count; ++i) {
        y[i] = table[x[i] + 128];
    }
}
""",
)

QUANTIZE = CFunction(
    "bt_quantize",
    """\
/* x / scale + zero, to the nearest, halves away from zero. */
static void bt_quantize(float scale, int32_t zero, int32_t count, const float *x, int8_t *y)
{
    int32_t i;
    for (i = 0; i < count; ++i) {
        const float quotient = x[i] / scale, whole = roundf(quotient) + (float)zero;
        y[i] = (int8_t)(whole > -128.0f ? (whole < 127.0f ? whole : 127.0f) : -128.0f);
    }
}
""",
    headers=("math.h",),
)

DEQUANTIZE = CFunction(
    "bt_dequantize",
    """\
static void bt_dequantize(float scale, int32_t zero, int32_t count, const int8_t *x, float *y)
{
    int32_t i;
    for (i = 0; i < count; ++i) {
        y[i] = (float)(x[i] - zero) * scale;
    }
}
""",
)

REQUANTIZE = CFunction(
    "bt_requantize",
    """\
static void bt_requantize(int32_t zero, int32_t multiplier, int32_t shift, int32_t out_zero, int32_t count,
    const int8_t *x, int8_t *y)
{
    int32_t i;
    for (i = 0; i < count; ++i) {
        y[i] = bt_ended(bt_scaled(x[i] - zero, multiplier, shift), out_zero, -128, 127);
    }
}
""",
    (SCALED, ENDED),
)
