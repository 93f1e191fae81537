# SPDX-License-Identifier: Apache-2.0
"""C functions of recurrent layers of integers (`ops.integer_recurrent`): int16 numbers lie in int32_t."""

from __future__ import annotations

from bittern.deploy.c_export.integer_code import ENDED, LOWERED, SCALED
from bittern.deploy.c_export.source import CFunction
from bittern.ops import fixed_point_16 as fixed

INT16 = CFunction(
    "bt_int16",
    """\
/* x held between -32768 and 32767. */
static int32_t bt_int16(int64_t x)
{
    return x > 32767 ? 32767 : (x < -32768 ? -32768 : (int32_t)x);
}
""",
)

HIGH_16 = CFunction(
    "bt_high16",
    """\
/* a * b / 2^15 of int16 numbers, to the nearest, halves upward; saturated. */
static int32_t bt_high16(int32_t a, int32_t b)
{
    const int32_t product = a * b;
    return bt_int16((product + (product >= 0 ? 16384 : -16383)) / 32768);
}
""",
    (INT16,),
)

EXP_16 = CFunction(
    "bt_exp16",
    f"""\
/* exp(x) of x <= 0 with so many integer bits, without any: a series about -1/8, and a factor for each further bit. */
static int32_t bt_exp16(int32_t x, int32_t bits)
{{
    static const int32_t powers[7] = {{{", ".join(str(value) for _, value in fixed.EXP_OF_POWERS)}}};
    const int32_t fraction = 15 - bits, quarter = (int32_t)1 << (fraction - 2);
    const int32_t part = (x & (quarter - 1)) - quarter, rest = part - x;
    const int32_t a = bt_int16(part * ((int32_t)1 << bits)) + 4096;
    const int32_t square = bt_high16(a, a), cube = bt_high16(square, a);
    const int32_t fourth = bt_lowered(bt_high16(square, square), 2);
    const int32_t terms = bt_lowered(bt_high16(fourth + cube, {fixed.THIRD}) + square, 1);
    int32_t i, y = bt_int16({fixed.EXP_OF_EIGHTH} + bt_high16(a + terms, {fixed.EXP_OF_EIGHTH}));
    for (i = -2; i < bits && i <= 4; ++i) {{
        y = (rest >> (fraction + i) & 1) != 0 ? bt_high16(y, powers[i + 2]) : y;
    }}
    if (bits > {fixed.CLAMP_BITS} && x < -((int32_t)32 << fraction)) {{
        y = 0;
    }}
    return x == 0 ? 32767 : y;
}}
""",
    (HIGH_16, LOWERED),
)

RECIPROCAL_16 = CFunction(
    "bt_reciprocal16",
    f"""\
/* 2 / (1 + x) of x in [0, 1], with 13 bits behind the point. */
static int32_t bt_reciprocal16(int32_t x)
{{
    const int32_t half = (x + 32768) / 2;
    int32_t i, y = {fixed.FORTY_EIGHT_17THS} + bt_high16(half, {fixed.THIRTY_TWO_17THS});
    for (i = 0; i < 3; ++i) {{
        y += bt_int16(bt_high16(y, 8192 - bt_high16(half, y)) * 4);
    }}
    return y;
}}
""",
    (HIGH_16,),
)

LOGISTIC_16 = CFunction(
    "bt_logistic16",
    """\
static int32_t bt_logistic16(int32_t x, int32_t bits)
{
    const int32_t y = bt_int16(bt_reciprocal16(bt_exp16(x > 0 ? -x : x, bits)) * 2);
    return x == 0 ? 16384 : (x > 0 ? y : 32767 - y);
}
""",
    (EXP_16, RECIPROCAL_16),
)

TANH_16 = CFunction(
    "bt_tanh16",
    """\
static int32_t bt_tanh16(int32_t x, int32_t bits)
{
    const int32_t y = bt_int16((bt_reciprocal16(bt_exp16(x > 0 ? -x : x, bits + 1)) - 8192) * 4);
    return x == 0 ? 0 : (x > 0 ? y : -y);
}
""",
    (EXP_16, RECIPROCAL_16),
)

GATES = CFunction(
    "bt_gates",
    """\
typedef struct { /* multiplier * 2^(shift - 31) * (weight (x - zero) + bias), by row */
    const int8_t *weight;
    const int32_t *bias, *multiplier, *shift; /* bias: or NULL */
    int32_t features, zero;
} bt_gates;

typedef struct { /* sizes; fixed points of gates and state; the factor and the limits of outputs */
    int32_t steps, hidden, integer_bits, exponent, multiplier, shift, zero, low, high, clip, reverse;
} bt_cell;

/* x: NULL stands for zeros. */
static int32_t bt_gate(const bt_gates *g, int32_t row, const int8_t *x)
{
    const int8_t *weight = g->weight + row * g->features;
    int32_t i, sum = g->bias == NULL ? 0 : g->bias[row];
    for (i = 0; x != NULL && i < g->features; ++i) {
        sum += weight[i] * (x[i] - g->zero);
    }
    return bt_scaled(sum, g->multiplier[row], g->shift[row]);
}

static int32_t bt_both(const bt_gates *in, const bt_gates *own, int32_t row, const int8_t *x, const int8_t *h)
{
    return bt_int16((int64_t)bt_int16(bt_gate(in, row, x)) + bt_gate(own, row, h));
}
""",
    (SCALED, INT16),
)

LSTM = CFunction(
    "bt_integer_lstm",
    """\
/* h, c: NULL, or the states before the first step; x [steps][features] -> y [steps][hidden], and the last state. */
static void bt_integer_lstm(const bt_cell *r, const bt_gates *in, const bt_gates *own, const int8_t *x, const int8_t *h,
    const int32_t *c, int8_t *y, int32_t *state)
{
    int32_t t, j;
    for (j = 0; j < r->hidden; ++j) {
        state[j] = c == NULL ? 0 : c[j];
    }
    for (t = 0; t < r->steps; ++t) {
        const int32_t at = r->reverse != 0 ? r->steps - 1 - t : t;
        const int8_t *now = x + at * in->features;
        for (j = 0; j < r->hidden; ++j) {
            const int32_t into = bt_logistic16(bt_both(in, own, j, now, h), r->integer_bits);
            const int32_t forget = bt_logistic16(bt_both(in, own, r->hidden + j, now, h), r->integer_bits);
            const int32_t fresh = bt_tanh16(bt_both(in, own, 2 * r->hidden + j, now, h), r->integer_bits);
            const int32_t out = bt_logistic16(bt_both(in, own, 3 * r->hidden + j, now, h), r->integer_bits);
            const int32_t added = bt_lowered(into * fresh, 30 + r->exponent);
            int32_t sum = bt_int16((int64_t)bt_lowered(forget * state[j], 15) + added);
            if (r->clip > 0) {
                sum = sum > r->clip ? r->clip : (sum < -r->clip ? -r->clip : sum);
            }
            state[j] = sum;
            y[at * r->hidden + j] = bt_ended(bt_scaled(out * bt_tanh16(sum, 15 + r->exponent), r->multiplier, r->shift),
                r->zero, r->low, r->high);
        }
        h = y + at * r->hidden;
    }
}
""",
    (GATES, LOGISTIC_16, TANH_16, ENDED, LOWERED),
)

GRU = CFunction(
    "bt_integer_gru",
    """\
/* c: NULL, or the state before the first step, with `first` for its int8 twin; x [steps][features] ->
   y [steps][hidden], and the last state. */
static void bt_integer_gru(const bt_cell *r, const bt_gates *in, const bt_gates *own, const int8_t *x,
    const int32_t *c, int8_t *first, int8_t *y, int32_t *state)
{
    const int8_t *h = NULL;
    int32_t t, j;
    for (j = 0; j < r->hidden; ++j) {
        state[j] = c == NULL ? 0 : c[j];
        if (c != NULL) {
            first[j] = bt_ended(bt_scaled(c[j], r->multiplier, r->shift), r->zero, r->low, r->high);
            h = first;
        }
    }
    for (t = 0; t < r->steps; ++t) {
        const int32_t at = r->reverse != 0 ? r->steps - 1 - t : t;
        const int8_t *now = x + at * in->features;
        for (j = 0; j < r->hidden; ++j) {
            const int32_t reset = bt_logistic16(bt_both(in, own, j, now, h), r->integer_bits);
            const int32_t update = bt_logistic16(bt_both(in, own, r->hidden + j, now, h), r->integer_bits);
            const int32_t before = bt_lowered(reset * bt_int16(bt_gate(own, 2 * r->hidden + j, h)), 15);
            const int32_t sum = bt_int16((int64_t)bt_int16(bt_gate(in, 2 * r->hidden + j, now)) + before);
            const int32_t added = bt_lowered((32767 - update) * bt_tanh16(sum, r->integer_bits), 30 + r->exponent);
            state[j] = bt_int16((int64_t)bt_lowered(update * state[j], 15) + added);
            y[at * r->hidden + j] =
                bt_ended(bt_scaled(state[j], r->multiplier, r->shift), r->zero, r->low, r->high);
        }
        h = y + at * r->hidden;
    }
}
""",
    (GATES, LOGISTIC_16, TANH_16, ENDED, LOWERED),
)

QUANTIZE_16 = CFunction(
    "bt_quantize16",
    """\
/* x / scale, to the nearest, halves away from zero. */
static void bt_quantize16(float scale, int32_t count, const float *x, int32_t *y)
{
    int32_t i;
    for (i = 0; i < count; ++i) {
        const float whole = roundf(x[i] / scale);
        y[i] = (int32_t)(whole > -32768.0f ? (whole < 32767.0f ? whole : 32767.0f) : -32768.0f);
    }
}
""",
    headers=("math.h",),
)

DEQUANTIZE_16 = CFunction(
    "bt_dequantize16",
    """\
static void bt_dequantize16(float scale, int32_t count, const int32_t *x, float *y)
{
    int32_t i;
    for (i = 0; i < count; ++i) {
        y[i] = (float)x[i] * scale;
    }
}
""",
)

COPY_BYTES = CFunction(
    "bt_copy_bytes",
    """\
static void bt_copy_bytes(int32_t count, const int8_t *x, int8_t *y)
{
    int32_t i;
    for (i = 0; i < count; ++i) {
        y[i] = x[i];
    }
}
""",
)

COPY_NUMBERS = CFunction(
    "bt_copy_numbers",
    """\
static void bt_copy_numbers(int32_t count, const int32_t *x, int32_t *y)
{
    int32_t i;
    for (i = 0; i < count; ++i) {
        y[i] = x[i];
    }
}
""",
)
