# SPDX-License-Identifier: Apache-2.0
"""C code of the node kinds `pool_bits` and `concatenate_bits`."""

from __future__ import annotations

import math

from bittern.deploy.c_export.binary_step import packed_rows
from bittern.deploy.c_export.plan import Step, words_of
from bittern.deploy.c_export.source import NULL, CFunction, Source, value
from bittern.deploy.c_export.window import SEEN, WINDOW, window
from bittern.deploy.kinds.kind import integer, integers

POOL_BITS = CFunction(
    "bt_pool_bits",
    """\
/* x[position][word]: the OR of each window; where flip has a 1, the AND. */
static void bt_pool_bits(const bt_window *w, int32_t words, const uint32_t *x, const uint32_t *flip, uint32_t *y)
{
    int32_t position, word, i, j;
    for (position = 0; position < w->out_height * w->out_width; ++position) {
        for (word = 0; word < words; ++word) {
            const uint32_t mask = flip != NULL ? flip[word] : 0u;
            uint32_t found = 0u;
            for (i = 0; i < w->kernel[0]; ++i) {
                for (j = 0; j < w->kernel[1]; ++j) {
                    const int32_t at = bt_seen(w, position / w->out_width, position % w->out_width, i, j);
                    found |= at >= 0 ? x[at * words + word] ^ mask : 0u;
                }
            }
            *y++ = found ^ mask;
        }
    }
}
""",
    (SEEN,),
)

PUT_BITS = CFunction(
    "bt_put_bits",
    """\
/* x[position][word], so many channels, to y[position][word] behind the first `offset` channels; what follows is 0. */
static void bt_put_bits(const uint32_t *x, int32_t positions, int32_t channels, int32_t offset, uint32_t *y,
                        int32_t y_words)
{
    const int32_t words = (channels + 31) / 32, shift = offset % 32;
    int32_t position, i;
    for (position = 0; position < positions; ++position, x += words, y += y_words) {
        int32_t at = offset / 32;
        uint32_t carry = shift == 0 ? 0u : y[at] & (((uint32_t)1 << shift) - 1u);
        for (i = 0; i < words; ++i, ++at) {
            y[at] = carry | x[i] << shift;
            carry = shift == 0 ? 0u : x[i] >> (32 - shift);
        }
        for (; at < y_words; ++at) {
            y[at] = carry;
            carry = 0u;
        }
    }
}
""",
)


def pool_bits(c: Source, step: Step) -> str:
    """A call of `bt_pool_bits`."""
    node = step.node
    x, y = c.forms[node.inputs[0]], c.forms[node.output]
    name = c.record(node, WINDOW, WINDOW.name, window(node, x, y, integers(node, "kernel"), dilated=False))
    flip = NULL
    if "flip" in node.tensors:
        stream = c.tensor(node, "flip")
        flip = c.words(node, "flip", packed_rows(stream, 1, integer(node, "channels")))
    return c.call(POOL_BITS, name, words_of(x.channels), value(node.inputs[0]), flip, value(node.output))


def concatenate_bits(c: Source, step: Step) -> str:
    """Calls of `bt_put_bits`, one for each part."""
    node, total = step.node, c.forms[step.node.output]
    positions = total.planes * math.prod(total.shape) // total.channels
    offset, calls = 0, []
    for part in node.inputs:
        channels = c.forms[part].channels
        numbers = (positions, channels, offset)
        calls.append(c.call(PUT_BITS, value(part), *numbers, value(node.output), words_of(total.channels)))
        offset += channels
    return "\n".join(calls)
