# SPDX-License-Identifier: Apache-2.0
"""Operators that only change how numbers of the file are stored, done while it is read.

Files of weights in float16 widen them by DEQUANTIZE, those of sparse weights spread them out by DENSIFY.
"""

from __future__ import annotations

from dataclasses import replace

from bittern.compat.tflite.file import Network

FOLDED = ("DENSIFY", "DEQUANTIZE")


def with_constants(network: Network) -> Network:
    """The network with what such operators write as numbers of the file."""
    values, left = list(network.values), []
    for operator in network.operators:
        ends = len(operator.inputs) == len(operator.outputs) == 1 and operator.inputs[0] >= 0
        source = values[operator.inputs[0]] if ends else None
        if operator.name not in FOLDED or source is None or source.constant is None or source.scales:
            left.append(operator)
            continue
        out = values[operator.outputs[0]]
        same = source.shape == out.shape and source.type == ("float16" if operator.name == "DEQUANTIZE" else out.type)
        if not same or out.type not in ("float16", "float32"):
            left.append(operator)
            continue
        numbers = source.constant.float() if out.type == "float32" else source.constant
        values[operator.outputs[0]] = replace(out, constant=numbers)
    return replace(network, values=tuple(values), operators=tuple(left))
