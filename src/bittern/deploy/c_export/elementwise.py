# SPDX-License-Identifier: Apache-2.0
"""C functions that treat every real value alike, or every value of a channel."""

from __future__ import annotations

from bittern.deploy.c_export.arithmetic import FMA, PRODUCT, SUM
from bittern.deploy.c_export.source import CFunction


def _each(
    name: str, expression: str, parameters: str = "", needs: tuple[CFunction, ...] = (), headers: tuple[str, ...] = ()
) -> CFunction:
    """y = expression of one number, called x in it."""
    return CFunction(
        name,
        f"""\
static void {name}(const float *input, int32_t count, {parameters}float *y)
{{
    int32_t i;
    for (i = 0; i < count; ++i) {{
        const float x = input[i];
        y[i] = {expression};
    }}
}}
""",
        needs,
        headers,
    )


def _per_channel(
    name: str,
    expression: str,
    vectors: tuple[str, ...],
    needs: tuple[CFunction, ...] = (),
    x: str = "*input++",
) -> CFunction:
    """y = expression of one number x and the entries of some vectors for its channel c."""
    parameters = "".join(f"const float *{vector}, " for vector in vectors)
    return CFunction(
        name,
        f"""\
static void {name}(const float *input, int32_t outer, int32_t channels, int32_t inner, {parameters}float *y)
{{
    int32_t i, c, k;
    for (i = 0; i < outer; ++i) {{
        for (c = 0; c < channels; ++c) {{
            for (k = 0; k < inner; ++k) {{
                const float x = {x};
                *y++ = {expression};
            }}
        }}
    }}
}}
""",
        needs,
    )


_MATH = ("math.h",)

CLAMP = _each("bt_clamp", "x < least ? least : (x > most ? most : x)", "float least, float most, ")
LEAKY_RELU = _each("bt_leaky_relu", "x > 0.0f ? x : bt_product(x, slope)", "float slope, ", (PRODUCT,))
ADD_CONSTANT = _each("bt_add_constant", "x + number", "float number, ")
MULTIPLY_CONSTANT = _each("bt_multiply_constant", "bt_product(x, number)", "float number, ", (PRODUCT,))

TO_6 = CFunction(
    "bt_to_6",
    """\
static float bt_to_6(float x)
{
    return x < 0.0f ? 0.0f : (x > 6.0f ? 6.0f : x);
}
""",
)

SIMPLE: dict[str, CFunction] = {
    "sign": _each("bt_sign", "x >= 0.0f ? 1.0f : -1.0f"),
    "hardsigmoid": _each("bt_hardsigmoid", "bt_to_6(bt_sum(x, 3.0f)) / 6.0f", needs=(SUM, TO_6)),
    "gelu": _each("bt_gelu", "0.5f * x * (1.0f + erff(x * 0.707106781f))", headers=_MATH),
    "silu": _each("bt_silu", "x / (1.0f + expf(-x))", headers=_MATH),
    "sigmoid": _each("bt_sigmoid", "1.0f / (1.0f + expf(-x))", headers=_MATH),
    "tanh": _each("bt_tanh", "tanhf(x)", headers=_MATH),
}
"""Kinds without attributes, by name."""

AFFINE = _per_channel("bt_affine", "bt_fma(x, alpha[c], beta[c])", ("alpha", "beta"), (FMA,))
BIAS = _per_channel("bt_bias", "x + bias[c]", ("bias",))
SHIFTED_SIGN = _per_channel("bt_shifted_sign", "x + shift[c] >= 0.0f ? 1.0f : -1.0f", ("shift",))
PRELU = _per_channel("bt_prelu", "x > 0.0f ? x : bt_product(slope[c], x)", ("slope",), (PRODUCT,))
RPRELU = _per_channel(
    "bt_rprelu",
    "(x > 0.0f ? x : bt_product(slope[c], x)) + after[c]",
    ("before", "slope", "after"),
    (PRODUCT,),
    x="*input++ - before[c]",
)
DPRELU = _per_channel(
    "bt_dprelu",
    "bt_product(x >= 0.0f ? rise[c] : fall[c], x) - after[c]",
    ("before", "rise", "fall", "after"),
    (PRODUCT,),
    x="*input++ - before[c]",
)
