# SPDX-License-Identifier: Apache-2.0
"""The C type of a sliding window, which low-bit layers, convolutions and pools share."""

from __future__ import annotations

from collections.abc import Sequence

from bittern.deploy.c_export.source import CFunction, Fields
from bittern.deploy.form import Form
from bittern.deploy.kinds.kind import integers, pair
from bittern.deploy.program import Node

WINDOW = CFunction(
    "bt_window",
    """\
typedef struct { /* of one and no dimensions: height 1, width 1 */
    int32_t height, width;
    int32_t out_height, out_width;
    int32_t kernel[2], stride[2], padding[2], dilation[2];
} bt_window;
""",
)

SEEN = CFunction(
    "bt_seen",
    """\
/* Index of the input position under tap (i, j) of the output position (row, column), or -1 in the padding. */
static int32_t bt_seen(const bt_window *w, int32_t row, int32_t column, int32_t i, int32_t j)
{
    const int32_t y = row * w->stride[0] - w->padding[0] + i * w->dilation[0];
    const int32_t x = column * w->stride[1] - w->padding[1] + j * w->dilation[1];
    return y < 0 || y >= w->height || x < 0 || x >= w->width ? -1 : y * w->width + x;
}
""",
    (WINDOW,),
)


def window(node: Node, x: Form, y: Form, kernel: Sequence[int], *, dilated: bool = True) -> Fields:
    """Fields of `bt_window` for a node over the space of x."""
    dilation = integers(node, "dilation") if dilated else []
    return [
        *pair(x.shape[2:], 1),
        *pair(y.shape[2:], 1),
        pair(kernel, 1),
        pair(integers(node, "stride"), 1),
        pair(integers(node, "padding"), 0),
        pair(dilation, 1),
    ]


def rows_window(rows: int) -> Fields:
    """Fields of `bt_window` for a linear layer: a row of positions that each see themselves."""
    return [1, rows, 1, rows, [1, 1], [1, 1], [0, 0], [1, 1]]
