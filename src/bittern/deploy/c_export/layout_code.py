# SPDX-License-Identifier: Apache-2.0
"""C functions that move real values about or combine them."""

from __future__ import annotations

from bittern.deploy.c_export.arithmetic import PRODUCT
from bittern.deploy.c_export.source import CFunction
from bittern.deploy.c_export.window import SEEN


def _operation(name: str, expression: str, *needs: CFunction) -> CFunction:
    return CFunction(
        name,
        f"""\
static void {name}(const float *a, const float *b, int32_t count, float *y)
{{
    int32_t i;
    for (i = 0; i < count; ++i) {{
        y[i] = {expression.format("a[i]", "b[i]")};
    }}
}}
""",
        needs,
    )


def _broadcast(name: str, expression: str, *needs: CFunction) -> CFunction:
    return CFunction(
        f"{name}_broadcast",
        f"""\
/* size, a_step, b_step: of four dimensions; a step is 0 along a dimension in which an input repeats itself. */
static void {name}_broadcast(const int32_t *size, const float *a, const int32_t *a_step, const float *b,
    const int32_t *b_step, float *y)
{{
    int32_t i, j, k, l;
    for (i = 0; i < size[0]; ++i) {{
        for (j = 0; j < size[1]; ++j) {{
            for (k = 0; k < size[2]; ++k) {{
                for (l = 0; l < size[3]; ++l) {{
                    const float left = a[i * a_step[0] + j * a_step[1] + k * a_step[2] + l * a_step[3]];
                    const float right = b[i * b_step[0] + j * b_step[1] + k * b_step[2] + l * b_step[3]];
                    *y++ = {expression.format("left", "right")};
                }}
            }}
        }}
    }}
}}
""",
        needs,
    )


_OPERATIONS: dict[str, tuple[str, tuple[CFunction, ...]]] = {
    "add": ("{} + {}", ()),
    "subtract": ("{} - {}", ()),
    "multiply": ("bt_product({}, {})", (PRODUCT,)),
}

SAME_SIZE = {kind: _operation(f"bt_{kind}", text, *needs) for kind, (text, needs) in _OPERATIONS.items()}
"""By kind: of two values of one shape."""

BROADCAST = {kind: _broadcast(f"bt_{kind}", text, *needs) for kind, (text, needs) in _OPERATIONS.items()}
"""By kind: of two values of which one repeats itself."""


def _copy(name: str, number: str) -> CFunction:
    """number: the C type of what is copied."""
    return CFunction(
        name,
        f"""\
/* Copies four dimensions, each with a step of its own in x and y. */
static void {name}(const int32_t *size, const {number} *x, const int32_t *x_step, {number} *y, const int32_t *y_step)
{{
    int32_t i, j, k, l;
    for (i = 0; i < size[0]; ++i) {{
        for (j = 0; j < size[1]; ++j) {{
            for (k = 0; k < size[2]; ++k) {{
                for (l = 0; l < size[3]; ++l) {{
                    y[i * y_step[0] + j * y_step[1] + k * y_step[2] + l * y_step[3]] =
                        x[i * x_step[0] + j * x_step[1] + k * x_step[2] + l * x_step[3]];
                }}
            }}
        }}
    }}
}}
""",
    )


def _fill(name: str, number: str) -> CFunction:
    return CFunction(
        name,
        f"""\
static void {name}({number} *y, int32_t count, {number} number)
{{
    int32_t i;
    for (i = 0; i < count; ++i) {{
        y[i] = number;
    }}
}}
""",
    )


COPY = {"real": _copy("bt_copy", "float"), "int8": _copy("bt_copy_integers", "int8_t")}
"""By the type of the values."""

FILL = {"real": _fill("bt_fill", "float"), "int8": _fill("bt_fill_integers", "int8_t")}

MAX_POOL = CFunction(
    "bt_max_pool",
    """\
static void bt_max_pool(const bt_window *w, int32_t channels, const float *x, float *y)
{
    int32_t channel, position, i, j;
    for (channel = 0; channel < channels; ++channel, x += w->height * w->width) {
        for (position = 0; position < w->out_height * w->out_width; ++position) {
            float most = -HUGE_VALF;
            for (i = 0; i < w->kernel[0]; ++i) {
                for (j = 0; j < w->kernel[1]; ++j) {
                    const int32_t at = bt_seen(w, position / w->out_width, position % w->out_width, i, j);
                    if (at >= 0 && (x[at] > most || x[at] != x[at])) { /* NaN stays */
                        most = x[at];
                    }
                }
            }
            *y++ = most;
        }
    }
}
""",
    (SEEN,),
    ("math.h",),
)

AVERAGE_POOL = CFunction(
    "bt_average_pool",
    """\
/* Where a window reaches beyond the image: `count_padding` counts the positions in the padding too. */
static void bt_average_pool(const bt_window *w, int32_t channels, int32_t count_padding, const float *x, float *y)
{
    int32_t channel, position, i, j;
    for (channel = 0; channel < channels; ++channel, x += w->height * w->width) {
        for (position = 0; position < w->out_height * w->out_width; ++position) {
            const int32_t row = position / w->out_width, column = position % w->out_width;
            int32_t count = 0;
            float sum = 0.0f;
            for (i = 0; i < w->kernel[0]; ++i) {
                for (j = 0; j < w->kernel[1]; ++j) {
                    const int32_t at = bt_seen(w, row, column, i, j);
                    const int32_t below = row * w->stride[0] + i - w->padding[0] < w->height + w->padding[0];
                    const int32_t right = column * w->stride[1] + j - w->padding[1] < w->width + w->padding[1];
                    sum += at < 0 ? 0.0f : x[at];
                    count += at >= 0 || (count_padding && below && right);
                }
            }
            *y++ = sum / (float)count;
        }
    }
}
""",
    (SEEN,),
)

ADAPTIVE_POOL = CFunction(
    "bt_adaptive_pool",
    """\
/* Output i of n is the mean of inputs floor(i * size / n) to ceil((i + 1) * size / n) - 1, in both dimensions. */
static void bt_adaptive_pool(const float *x, int32_t channels, int32_t height, int32_t width, int32_t out_height,
                             int32_t out_width, float *y)
{
    int32_t channel, row, column, i, j;
    for (channel = 0; channel < channels; ++channel, x += height * width) {
        for (row = 0; row < out_height; ++row) {
            const int32_t top = row * height / out_height;
            const int32_t bottom = ((row + 1) * height + out_height - 1) / out_height;
            for (column = 0; column < out_width; ++column) {
                const int32_t left = column * width / out_width;
                const int32_t right = ((column + 1) * width + out_width - 1) / out_width;
                float sum = 0.0f;
                for (i = top; i < bottom; ++i) {
                    for (j = left; j < right; ++j) {
                        sum += x[i * width + j];
                    }
                }
                *y++ = sum / (float)((bottom - top) * (right - left));
            }
        }
    }
}
""",
)

MEAN = CFunction(
    "bt_mean",
    """\
/* Means over some of four dimensions: kept_size is 1 where a mean is taken, gone_size where none is. */
static void bt_mean(const int32_t *kept_size, const int32_t *gone_size, const int32_t *step, const float *x, float *y)
{
    const int32_t count = gone_size[0] * gone_size[1] * gone_size[2] * gone_size[3];
    const int32_t results = kept_size[0] * kept_size[1] * kept_size[2] * kept_size[3];
    int32_t result, term, d;
    for (result = 0; result < results; ++result) {
        int32_t start = 0, rest = result;
        float sum = 0.0f;
        for (d = 3; d >= 0; --d) {
            start += rest % kept_size[d] * step[d];
            rest /= kept_size[d];
        }
        for (term = 0; term < count; ++term) {
            int32_t at = start;
            rest = term;
            for (d = 3; d >= 0; --d) {
                at += rest % gone_size[d] * step[d];
                rest /= gone_size[d];
            }
            sum += x[at];
        }
        *y++ = sum / (float)count;
    }
}
""",
)

FACTORS = CFunction(
    "bt_factors",
    """\
typedef struct { /* repeats itself along dimensions whose step is 0 */
    const float *data;
    int32_t step[4];
} bt_factor;

/* y = x * (f * g * ...), the factors multiplied from left to right. */
static void bt_factors(const int32_t *size, const bt_factor *factors, int32_t count, const float *x, float *y)
{
    int32_t i, j, k, l, f;
    for (i = 0; i < size[0]; ++i) {
        for (j = 0; j < size[1]; ++j) {
            for (k = 0; k < size[2]; ++k) {
                for (l = 0; l < size[3]; ++l) {
                    float product = 1.0f;
                    for (f = 0; f < count; ++f) {
                        const int32_t *step = factors[f].step;
                        product = bt_product(
                            product, factors[f].data[i * step[0] + j * step[1] + k * step[2] + l * step[3]]);
                    }
                    *y++ = bt_product(*x++, product);
                }
            }
        }
    }
}
""",
    (PRODUCT,),
)
