# SPDX-License-Identifier: Apache-2.0
"""More C functions of integers: pairs of values, means, transposed convolutions, and tables by channel."""

from __future__ import annotations

from bittern.deploy.c_export.few_bits_code import WEIGHTS, Weights
from bittern.deploy.c_export.integer_code import ENDED, FACTORS, SCALE, SCALED, TABLE
from bittern.deploy.c_export.source import CFunction

SUBTRACT = CFunction(
    "bt_integer_subtract",
    """\
/* scale: of a, of b, and of their difference. */
static void bt_integer_subtract(const bt_scale *scale, int32_t low, int32_t high, int32_t count, const int8_t *a,
    const int8_t *b, int8_t *y)
{
    int32_t i;
    for (i = 0; i < count; ++i) {
        const int32_t left = bt_scaled((a[i] - scale[0].zero) * 1048576, scale[0].multiplier, scale[0].shift);
        const int32_t right = bt_scaled((b[i] - scale[1].zero) * 1048576, scale[1].multiplier, scale[1].shift);
        y[i] = bt_ended(bt_scaled(left - right, scale[2].multiplier, scale[2].shift), scale[2].zero, low, high);
    }
}
""",
    (SCALE, SCALED, ENDED),
)

MULTIPLY = CFunction(
    "bt_integer_multiply",
    """\
/* zero: of a, of b, and of the result. */
static void bt_integer_multiply(const int32_t *zero, int32_t multiplier, int32_t shift, int32_t low, int32_t high,
    int32_t count, const int8_t *a, const int8_t *b, int8_t *y)
{
    int32_t i;
    for (i = 0; i < count; ++i) {
        y[i] = bt_ended(bt_scaled((a[i] - zero[0]) * (b[i] - zero[1]), multiplier, shift), zero[2], low, high);
    }
}
""",
    (SCALED, ENDED),
)

EXTREME = CFunction(
    "bt_integer_extreme",
    """\
/* The larger of two numbers, or the smaller. */
static void bt_integer_extreme(int32_t larger, int32_t count, const int8_t *a, const int8_t *b, int8_t *y)
{
    int32_t i;
    for (i = 0; i < count; ++i) {
        y[i] = (a[i] > b[i]) == (larger != 0) ? a[i] : b[i];
    }
}
""",
)

MEAN = CFunction(
    "bt_integer_mean",
    """\
typedef struct { /* sizes and steps of what stays and of what is summed; 1 and 0 where nothing is */
    int32_t kept[4], kept_step[4], summed[4], summed_step[4];
    int32_t zero, multiplier, shift, out_zero, low, high;
} bt_mean;

static void bt_integer_mean(const bt_mean *m, const int8_t *x, int8_t *y)
{
    int32_t a[4], b[4];
    for (a[0] = 0; a[0] < m->kept[0]; ++a[0]) {
        for (a[1] = 0; a[1] < m->kept[1]; ++a[1]) {
            for (a[2] = 0; a[2] < m->kept[2]; ++a[2]) {
                for (a[3] = 0; a[3] < m->kept[3]; ++a[3]) {
                    const int8_t *from = x + a[0] * m->kept_step[0] + a[1] * m->kept_step[1] + a[2] * m->kept_step[2]
                        + a[3] * m->kept_step[3];
                    int32_t sum = 0;
                    for (b[0] = 0; b[0] < m->summed[0]; ++b[0]) {
                        for (b[1] = 0; b[1] < m->summed[1]; ++b[1]) {
                            for (b[2] = 0; b[2] < m->summed[2]; ++b[2]) {
                                for (b[3] = 0; b[3] < m->summed[3]; ++b[3]) {
                                    sum += from[b[0] * m->summed_step[0] + b[1] * m->summed_step[1]
                                               + b[2] * m->summed_step[2] + b[3] * m->summed_step[3]]
                                        - m->zero;
                                }
                            }
                        }
                    }
                    *y++ = bt_ended(bt_scaled(sum, m->multiplier, m->shift), m->out_zero, m->low, m->high);
                }
            }
        }
    }
}
""",
    (SCALED, ENDED),
)

TRANSPOSED_WINDOW = CFunction(
    "bt_transposed",
    """\
typedef struct { /* pairs are (rows, columns) */
    int32_t channels, out_channels, size[2], out_size[2], kernel[2], stride[2], before[2];
} bt_transposed;
""",
)


def _transposed(weights: Weights) -> CFunction:
    return CFunction(
        f"bt_integer_transposed{weights.suffix}",
        f"""\
/* x [channels][position], weight [out channels][channels][tap] -> y [out channels][position]: each result gathers the
   inputs whose windows reach it. */
static void bt_integer_transposed{weights.suffix}(const bt_transposed *t, const bt_factors *f,
    const {weights.type} *weight, int32_t zero, const int8_t *x, int8_t *y)
{{
    const int32_t taps = t->kernel[0] * t->kernel[1], plane = t->size[0] * t->size[1];
    int32_t o, row, column, i, j, c;
    for (o = 0; o < t->out_channels; ++o) {{
        for (row = 0; row < t->out_size[0]; ++row) {{
            for (column = 0; column < t->out_size[1]; ++column) {{
                int32_t sum = 0;
                for (i = 0; i < t->kernel[0]; ++i) {{
                    const int32_t down = row + t->before[0] - i, from_row = down / t->stride[0];
                    if (down < 0 || down % t->stride[0] != 0 || from_row >= t->size[0]) {{
                        continue;
                    }}
                    for (j = 0; j < t->kernel[1]; ++j) {{
                        const int32_t right = column + t->before[1] - j, from_column = right / t->stride[1];
                        const int32_t first = o * t->channels * taps + i * t->kernel[1] + j;
                        if (right < 0 || right % t->stride[1] != 0 || from_column >= t->size[1]) {{
                            continue;
                        }}
                        for (c = 0; c < t->channels; ++c) {{
                            sum += {weights.at("first + c * taps")}
                                * (x[c * plane + from_row * t->size[1] + from_column] - zero);
                        }}
                    }}
                }}
                *y++ = bt_of_sum(f, o, sum);
            }}
        }}
    }}
}}
""",
        (TRANSPOSED_WINDOW, FACTORS, *weights.needs),
    )


TRANSPOSED = {bits: _transposed(weights) for bits, weights in WEIGHTS.items()}
"""By the bits that a weight has in the file."""

TABLES = CFunction(
    "bt_integer_tables",
    """\
/* A table a channel: x [channels][count]. */
static void bt_integer_tables(const int8_t *table, int32_t channels, int32_t count, const int8_t *x, int8_t *y)
{
    int32_t c;
    for (c = 0; c < channels; ++c) {
        bt_integer_table(table + 256 * c, count, x + c * count, y + c * count);
    }
}
""",
    (TABLE,),
)

BYTE_TABLES = CFunction(
    "bt_byte_tables",
    """\
/* A table a channel of bytes: x [channels][count]. */
static void bt_byte_tables(const int8_t *table, int32_t channels, int32_t count, const uint8_t *x, int8_t *y)
{
    int32_t c, i;
    for (c = 0; c < channels; ++c) {
        for (i = 0; i < count; ++i) {
            *y++ = table[256 * c + *x++];
        }
    }
}
""",
)
