# SPDX-License-Identifier: Apache-2.0
"""C code of the node kind `encode`: real values to bits, also those of a convolution before it.

Bits of a plane are [position][word]; bit i mod 32 of word i / 32 belongs to channel i. Words, not bytes, so the order
of bytes in memory does not matter.
"""

from __future__ import annotations

import math

from bittern.deploy.c_export.plan import Step
from bittern.deploy.c_export.real_code import CONV_BITS
from bittern.deploy.c_export.real_steps import convolution
from bittern.deploy.c_export.source import NULL, CFunction, Source, value
from bittern.deploy.kinds.bits import half_open_threshold
from bittern.deploy.kinds.kind import integer, number
from bittern.deploy.kinds.node_codes import has_levels
from bittern.deploy.program import Node

ENCODE = CFunction(
    "bt_encode",
    """\
/* x[channel * channel_step + position * position_step] -> bits[position][word]: x >= threshold (where NULL, limit). */
static void bt_encode(const float *x, int32_t channels, int32_t channel_step, int32_t positions, int32_t position_step,
                      const float *threshold, float limit, uint32_t *bits)
{
    int32_t position, channel;
    for (position = 0; position < positions; ++position) {
        uint32_t word = 0u;
        for (channel = 0; channel < channels; ++channel) {
            const float least = threshold != NULL ? threshold[channel] : limit;
            if (x[channel * channel_step + position * position_step] >= least) {
                word |= (uint32_t)1 << (channel % 32);
            }
            if (channel % 32 == 31 || channel == channels - 1) {
                *bits++ = word;
                word = 0u;
            }
        }
    }
}
""",
)

ENCODE_LEVELS = CFunction(
    "bt_encode_levels",
    """\
/* x -> bits[plane][position][word], lowest plane first, of round(clip(x, 0, 1) * (2^planes - 1)), ties to even. */
static void bt_encode_levels(const float *x, int32_t channels, int32_t channel_step, int32_t positions,
                             int32_t position_step, int32_t planes, uint32_t *bits)
{
    const int32_t words = (channels + 31) / 32;
    const int32_t levels = ((int32_t)1 << planes) - 1;
    int32_t position, channel, plane;
    memset(bits, 0, (size_t)(planes * positions * words) * sizeof *bits);
    for (position = 0; position < positions; ++position) {
        for (channel = 0; channel < channels; ++channel) {
            const float real = x[channel * channel_step + position * position_step];
            const float clipped = real > 0.0f ? (real < 1.0f ? real : 1.0f) : 0.0f;
            const float scaled = clipped * (float)levels;
            int32_t code = (int32_t)scaled;
            const float rest = scaled - (float)code;
            if (rest > 0.5f || (rest == 0.5f && code % 2 == 1)) {
                ++code;
            }
            for (plane = 0; plane < planes; ++plane) {
                const uint32_t bit = (uint32_t)(code >> plane & 1);
                bits[(plane * positions + position) * words + channel / 32] |= bit << (channel % 32);
            }
        }
    }
}
""",
    headers=("string.h",),
)


def encode(c: Source, step: Step) -> str:
    """A call of `bt_encode`, `bt_encode_levels` or, with a convolution before it, `bt_conv_bits`."""
    node, form = step.node, c.forms[step.node.inputs[0]]
    channels = integer(node, "channels")
    positions = math.prod(form.shape) // channels
    steps = (1, positions, channels) if node.attrs["dims"] == 0 else (positions, positions, 1)
    x, y = value(step.reads[0]), value(step.writes)
    if integer(node, "planes") > 1:
        return c.call(ENCODE_LEVELS, x, channels, *steps, integer(node, "planes"), y)
    if step.before:
        return c.call(CONV_BITS, *_before(c, step), *_threshold(c, node), x, y)
    return c.call(ENCODE, x, channels, *steps, *_threshold(c, node), y)


def _threshold(c: Source, node: Node) -> tuple[str, str]:
    """Arguments `threshold` and `limit`."""
    threshold = c.floats(node, "threshold", c.tensor(node, "threshold")) if "threshold" in node.tensors else NULL
    return threshold, c.real(half_open_threshold() if has_levels(node) else 0.0)


def _before(c: Source, step: Step) -> tuple[str, ...]:
    """Arguments of `bt_conv_bits` for the nodes in front of the sign."""
    conv, *others = step.before
    alpha = beta = NULL
    least, most = -math.inf, math.inf
    for node in others:
        if node.kind == "affine":
            rows = c.tensor(node, "affine")
            alpha, beta = c.floats(node, "alpha", rows[0]), c.floats(node, "beta", rows[1])
        else:
            least, most = number(node, "least"), number(node, "most")
    return convolution(c, conv), alpha, beta, c.real(least), c.real(most)
