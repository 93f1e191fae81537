# SPDX-License-Identifier: Apache-2.0
"""C functions of integers: bilinear resizing, and products of two computed matrices."""

from __future__ import annotations

from bittern.deploy.c_export.integer_code import FACTORS
from bittern.deploy.c_export.source import CFunction

RESIZE = CFunction(
    "bt_integer_resize",
    """\
/* rows, columns: for each of the result's the one in front, and the share of the next one in parts of 1,024. */
static void bt_integer_resize(const int32_t *size, const int32_t *out_size, const int32_t *rows,
    const int32_t *columns, int32_t channels, const int8_t *x, int8_t *y)
{
    int32_t c, i, j;
    for (c = 0; c < channels; ++c) {
        for (i = 0; i < out_size[0]; ++i) {
            const int32_t row = rows[2 * i], down = rows[2 * i + 1];
            const int8_t *upper = x + row * size[1];
            const int8_t *lower = row + 1 < size[0] ? upper + size[1] : upper;
            for (j = 0; j < out_size[1]; ++j) {
                const int32_t left = columns[2 * j], across = columns[2 * j + 1];
                const int32_t right = left + 1 < size[1] ? left + 1 : left;
                const int32_t sum = (upper[left] * (1024 - down) + lower[left] * down) * (1024 - across)
                    + (upper[right] * (1024 - down) + lower[right] * down) * across;
                *y++ = (int8_t)((sum + (sum > 0 ? 524288 : -524288)) / 1048576);
            }
        }
        x += size[0] * size[1];
    }
}
""",
)

MATMUL = CFunction(
    "bt_integer_matmul",
    """\
/* size: matrices, rows, numbers of a sum, columns; a [matrix][row][number], b [matrix][number][column]. */
static void bt_integer_matmul(const int32_t *size, const bt_factors *f, int32_t zero_a, int32_t zero_b,
    const int8_t *a, const int8_t *b, int8_t *y)
{
    int32_t matrix, row, column, k;
    for (matrix = 0; matrix < size[0]; ++matrix) {
        for (row = 0; row < size[1]; ++row) {
            for (column = 0; column < size[3]; ++column) {
                int32_t sum = 0;
                for (k = 0; k < size[2]; ++k) {
                    sum += (a[row * size[2] + k] - zero_a) * (b[k * size[3] + column] - zero_b);
                }
                *y++ = bt_of_sum(f, 0, sum);
            }
        }
        a += size[1] * size[2];
        b += size[2] * size[3];
    }
}
""",
    (FACTORS,),
)
