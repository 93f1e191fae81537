# SPDX-License-Identifier: Apache-2.0
"""C code of the node kind `binary`, alone or with the `threshold` behind it."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from bittern.deploy.bit_stream import stream_bytes
from bittern.deploy.c_export import binary_code as code
from bittern.deploy.c_export.plan import WORD_BITS, Step, words_of
from bittern.deploy.c_export.source import NULL, Fields, Source, scratch, value
from bittern.deploy.c_export.window import rows_window, window
from bittern.deploy.form import Form
from bittern.deploy.kinds.binary import epilogue_rows, has_input_scale, taps, weight_words
from bittern.deploy.kinds.kind import integer, integers
from bittern.deploy.kinds.node_codes import has_middle, paddings, weight_factors
from bittern.deploy.program import Node
from bittern.quantizer import InputScale


def fan_in(node: Node) -> int:
    """Weights that one output sees."""
    return taps(node) * integer(node, "channels") // integer(node, "groups")


def needs(c: Source, step: Step) -> list[tuple[str, int]]:
    """Memory for gathered rows and their mask, and for XNOR-Net's K."""
    node = (*step.before, step.node)[0]
    memory = [("words", (integer(node, "input_planes") + 1) * words_of(fan_in(node)))]
    if has_input_scale(node):
        channels, out = integer(node, "channels"), integer(node, "out_channels")
        x, y = c.forms[node.inputs[1]], c.forms[node.output]
        results = 1 if _per_sample(node) else math.prod(y.shape) // out
        memory += [("reals", math.prod(x.shape) // channels), ("reals", results)]
    return memory


def _per_sample(node: Node) -> bool:
    """Whether one number scales a sample; of a linear layer each row has its own."""
    return node.attrs["input_scale"] == InputScale.PER_SAMPLE.value and integer(node, "dims") > 0


def binary(c: Source, step: Step) -> str:
    """A call of `bt_binary`, after one that computes the scale of the input where there is one."""
    node = step.node
    rows = dict(zip(("offset", "scale", "alpha", "beta"), _epilogue(c, node), strict=True))
    neutral = {"offset": 0.0, "scale": 1.0, "alpha": 1.0, "beta": 0.0}
    epilogue = [NULL if bool((row == neutral[role]).all()) else c.floats(node, role, row) for role, row in rows.items()]
    layer = c.record(node, code.LAYER, code.LAYER.name, _layer(c, node, epilogue))
    before, spread = _input_scale(c, step, layer)
    call = c.call(code.BINARY, layer, value(step.reads[0]), *spread, scratch(step), value(step.writes))
    return "\n".join([*before, call])


def binary_bits(c: Source, step: Step) -> str:
    """A call of `bt_binary_bits`."""
    node, (product,) = step.node, step.before
    layer = c.record(product, code.LAYER, code.LAYER.name, _layer(c, product, [NULL] * 4))
    threshold = c.integers(node, "threshold", c.tensor(node, "threshold").tolist())
    flip = NULL
    if "flip" in node.tensors:
        flip = c.words(node, "flip", packed_rows(c.tensor(node, "flip"), 1, integer(node, "channels")))
    bits, y = value(step.reads[0]), value(step.writes)
    return c.call(code.BINARY_BITS, layer, bits, threshold, flip, scratch(step), y)


def _epilogue(c: Source, node: Node) -> Tensor:
    named = node.named(c.tensors)
    return epilogue_rows(node, named, weight_words(node, named))


def packed_rows(stream: Tensor, rows: int, bits: int) -> list[int]:
    """A bit stream of `rows` rows without gaps -> words, each row from a word of its own on."""
    loose = np.unpackbits(stream.numpy(), count=rows * bits, bitorder="little").reshape(rows, bits)
    padded = np.pad(loose, ((0, 0), (0, words_of(bits) * WORD_BITS - bits)))
    words: list[int] = np.packbits(padded, axis=1, bitorder="little").view("<u4").flatten().tolist()
    return words


def _window(node: Node, x: Form, y: Form) -> Fields:
    if integer(node, "dims") == 0:
        return rows_window(math.prod(x.shape) // integer(node, "channels"))
    return window(node, x, y, integers(node, "kernel"))


def _layer(c: Source, node: Node, epilogue: list[str]) -> Fields:
    """Fields of `bt_layer`."""
    x, y = c.forms[node.inputs[0]], c.forms[node.output]
    out = integer(node, "out_channels")
    positions = math.prod(y.shape) // out
    streams = list(c.tensor(node, "weight")) + [
        torch.full((stream_bytes(out * fan_in(node)),), 255, dtype=torch.uint8)
    ] * has_middle(node)
    weight = [word for plane in streams for word in packed_rows(plane, out, fan_in(node))]
    factors, padded = weight_factors(node), paddings(node)
    channel_step, position_step = (1, out) if integer(node, "dims") == 0 else (positions, 1)
    return [
        _window(node, x, y),
        *(integer(node, key) for key in ("channels", "out_channels", "groups", "input_planes")),
        len(factors),
        factors[-1],
        min(padded),
        sum(1 << plane for plane, pad in enumerate(padded) if pad == 1),
        channel_step,
        position_step,
        c.words(node, "weight", weight),
        *epilogue,
    ]


def _input_scale(c: Source, step: Step, layer: str) -> tuple[list[str], tuple[str | int, ...]]:
    """Calls that compute the scale that depends on the input, and the arguments `spread`, `spread_step`."""
    node = step.node
    dims, channels = integer(node, "dims"), integer(node, "channels")
    if not has_input_scale(node):
        return [], (NULL, 0)
    x = c.forms[node.inputs[1]]
    real, positions = value(node.inputs[1]), math.prod(x.shape) // channels
    if _per_sample(node):
        call = c.call(code.MEAN_SIZE, real, positions, channels, scratch(step, 1), scratch(step, 2))
        return [call], (scratch(step, 2), 0)
    steps = (1, channels) if dims == 0 else (positions, 1)
    call = c.call(code.SPREAD, f"{layer}.window", real, channels, *steps, scratch(step, 1), scratch(step, 2))
    return [call], (scratch(step, 2), 1)
