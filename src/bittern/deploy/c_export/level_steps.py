# SPDX-License-Identifier: Apache-2.0
"""C code of the node kinds of `kinds.levels`: where a real input lies among the levels of its code."""

from __future__ import annotations

import math

from bittern.deploy.c_export.arithmetic import PRODUCT
from bittern.deploy.c_export.plan import Step
from bittern.deploy.c_export.source import CFunction, Source, value
from bittern.deploy.kinds.kind import integer
from bittern.input_codes import LEAST_ROW, ROW_TOP

IN_RANGE = CFunction(
    "bt_in_range",
    """\
/* x[outer][channels][inner], low[channels] */
static void bt_in_range(const float *x, int32_t outer, int32_t channels, int32_t inner, const float *low, float width,
                        float *y)
{
    int32_t i, c, k;
    for (i = 0; i < outer; ++i) {
        for (c = 0; c < channels; ++c) {
            for (k = 0; k < inner; ++k) {
                *y++ = (*x++ - low[c]) / width;
            }
        }
    }
}
""",
)

STEPS = CFunction(
    "bt_steps",
    """\
/* (v + zero) / top of v = round(clip((x - origin) / step, -zero, top - zero)), ties to even; v = 0 for NaN. */
static void bt_steps(const float *x, int32_t count, float origin, float step, int32_t zero, int32_t top, float *y)
{
    const float low = (float)-zero, high = (float)(top - zero);
    int32_t i;
    for (i = 0; i < count; ++i) {
        const float moved = x[i] - origin;
        const float place = moved / step;
        const float real = place > low ? (place < high ? place : high) : place <= low ? low : 0.0f;
        const float size = real < 0.0f ? -real : real;
        int32_t number = (int32_t)size;
        const float rest = size - (float)number;
        if (rest > 0.5f || (rest == 0.5f && number % 2 == 1)) {
            ++number;
        }
        y[i] = (float)((real < 0.0f ? -number : number) + zero) / (float)top;
    }
}
""",
)

ROW_SCALE = CFunction(
    "bt_row_scale",
    f"""\
/* The largest |x| of each row, at least {LEAST_ROW:g}f and NaN where there is one, divided by `by`. */
static void bt_row_scale(const float *x, int32_t rows, int32_t count, float by, float *y)
{{
    int32_t i, c;
    for (i = 0; i < rows; ++i) {{
        float most = {LEAST_ROW:g}f;
        for (c = 0; c < count; ++c) {{
            const float size = fabsf(*x++);
            if (size > most || size != size) {{
                most = size;
            }}
        }}
        y[i] = most / by;
    }}
}}
""",
    headers=("math.h",),
)

ROW_LEVELS = CFunction(
    "bt_row_levels",
    f"""\
/* (v + 128) / 255 of v = round(x * ({ROW_TOP} / most)) of each row, ties to even; 0 for NaN. */
static void bt_row_levels(const float *x, int32_t rows, int32_t count, float *y)
{{
    int32_t i, c;
    for (i = 0; i < rows; ++i) {{
        const float *row = x + i * count;
        float most;
        bt_row_scale(row, 1, count, 1.0f, &most);
        for (c = 0; c < count; ++c) {{
            const float scaled = bt_product(row[c], {ROW_TOP}.0f / most);
            const float size = fabsf(scaled);
            int32_t number = size <= {ROW_TOP + 1}.0f ? (int32_t)size : 0;
            const float rest = size - (float)number;
            if (rest > 0.5f || (rest == 0.5f && number % 2 == 1)) {{
                ++number;
            }}
            number = scaled < 0.0f ? -number : number;
            y[i * count + c] = size <= {ROW_TOP + 1}.0f ? (float)(number + {ROW_TOP + 1}) / {2 * ROW_TOP + 1}.0f : 0.0f;
        }}
    }}
}}
""",
    (ROW_SCALE, PRODUCT),
    ("math.h",),
)


TO_STEPS = CFunction(
    "bt_to_steps",
    """\
/* round(x / step), ties to even, from low to high; 0 for NaN. */
static void bt_to_steps(const float *x, int32_t count, float step, float low, float high, float *y)
{
    int32_t i;
    for (i = 0; i < count; ++i) {
        float number = x[i] / step;
        number = number != number ? 0.0f : number < low ? low : number > high ? high : number;
        {
            const float size = fabsf(number);
            int32_t whole = (int32_t)size;
            const float rest = size - (float)whole;
            if (rest > 0.5f || (rest == 0.5f && whole % 2 == 1)) {
                ++whole;
            }
            y[i] = (float)(number < 0.0f ? -whole : whole);
        }
    }
}
""",
    headers=("math.h",),
)


def in_range(c: Source, step: Step) -> str:
    node = step.node
    low, width, total = c.tensor(node, "low"), float(c.tensor(node, "width")), math.prod(c.forms[step.writes].shape)
    channels = len(low)
    inner = total if channels == 1 else total // channels if integer(node, "dims") else 1
    sizes = (total // (channels * inner), channels, inner)
    x, y = value(step.reads[0]), value(step.writes)
    return c.call(IN_RANGE, x, *sizes, c.floats(node, "low", low), c.real(width), y)


def steps(c: Source, step: Step) -> str:
    node = step.node
    origin = float(c.tensor(node, "origin")) if "origin" in node.tensors else 0.0
    numbers = c.real(origin), c.real(float(c.tensor(node, "step"))), integer(node, "zero_level")
    count, top = math.prod(c.forms[step.writes].shape), 2 ** integer(node, "planes") - 1
    return c.call(STEPS, value(step.reads[0]), count, *numbers, top, value(step.writes))


def to_steps(c: Source, step: Step) -> str:
    node = step.node
    count, width = math.prod(c.forms[step.writes].shape), c.real(float(c.tensor(node, "step")))
    low, high = c.real(-float(integer(node, "below"))), c.real(float(integer(node, "high")))
    return c.call(TO_STEPS, value(step.reads[0]), count, width, low, high, value(step.writes))


def row_levels(c: Source, step: Step) -> str:
    return c.call(ROW_LEVELS, value(step.reads[0]), *_rows(c, step), value(step.writes))


def row_scale(c: Source, step: Step) -> str:
    return c.call(ROW_SCALE, value(step.reads[0]), *_rows(c, step), c.real(float(ROW_TOP)), value(step.writes))


def _rows(c: Source, step: Step) -> tuple[int, int]:
    """How many, and of how many numbers."""
    shape = c.forms[step.reads[0]].shape
    return math.prod(shape[:-1]), shape[-1]
