# SPDX-License-Identifier: Apache-2.0
"""Bytes that operators of torch take while they run, beyond what they read and write.

Most are one kernel. A few are several, and hold what no input and no result shows: attention that is not one kernel its
scores, a product of several tensors that of the first ones, a distance the differences, convolutions of float64 their
windows one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from bittern.deploy.form import Form, Shape, Tensors
from bittern.deploy.kinds.footprint import FLOAT_BYTES, WORD_BYTES, inputs_and_result
from bittern.deploy.program import Node

SCORES = 3
"""Copies of the scores: as a product, with the mask, and behind the softmax."""

DIFFERENCES = 5
"""Copies of two tensors spread over each other, and of what follows from them."""

FUSED_DIMS = 4
"""[batch, heads, tokens, features]: of other numbers of dimensions torch's kernel of attention takes none."""


def working_bytes(node: Node, tensors: Tensors, inputs: Sequence[Form], form: Form) -> int:
    """For one sample."""
    given = node.attrs["arguments"]
    assert isinstance(given, list)
    extra = EXTRA.get(str(node.attrs["operator"]).partition(".")[0])
    double = any(x.type == "float64" for x in inputs)
    numbers = 0
    if extra is not None:
        numbers = extra(given, [_shape(argument, tensors, inputs) for argument in given], form.shape, double)
    return inputs_and_result(node, tensors, inputs, form) + (WORD_BYTES if double else FLOAT_BYTES) * numbers


def _shape(argument: Any, tensors: Tensors, inputs: Sequence[Form]) -> Any:
    """Of what an argument stands for; of a list, those of its entries; None for what is no tensor."""
    match argument:
        case {"input": index, **_rest}:
            return inputs[index].shape
        case {"tensor": role}:
            return tuple(tensors[role].shape)
        case list():
            return [_shape(entry, tensors, inputs) for entry in argument]
    return None


def _attention(given: list[Any], shapes: list[Shape], _: Shape, double: bool) -> int:
    query, key, value = shapes[:3]
    rows_in_memory = all(one["order"][-1] == len(one["order"]) - 1 for one in given[:3] if "order" in one)
    alike = query[:-2] == key[:-2] == value[:-2] and query[-1] == key[-1] == value[-1]
    if len(query) == FUSED_DIMS and alike and rows_in_memory and not double:
        return 0
    return SCORES * math.prod((*query[:-1], key[-2]))


def _einsum(given: list[Any], shapes: list[Any], _: Shape, double: bool) -> int:
    """The largest of the products of the first tensors, which are multiplied from left to right."""
    terms, arrow, result = str(given[0]).replace(" ", "").replace("...", ".").partition("->")
    if not arrow:
        result = "".join(name for name in terms if name == "." or terms.count(name) == 1)
    labels = terms.split(",")
    sizes: dict[str, int] = {}
    for names, shape in zip(labels, shapes[1], strict=True):
        rest = len(shape) - len(names.replace(".", ""))
        for place, name in enumerate(names):
            start = place + (rest - 1 if "." in names[:place] else 0)
            size = math.prod(shape[start : start + rest]) if name == "." else shape[start]
            sizes[name] = max(sizes.get(name, 1), size)
    held, most = set(labels[0]), 0
    for place, names in enumerate(labels[1:], 1):
        held = (held | set(names)) & (set("".join(labels[place + 1 :])) | set(result))
        most = max(most, math.prod(sizes[name] for name in held))
    return most


def _differences(given: list[Any], shapes: list[Shape], _: Shape, double: bool) -> int:
    one, other = (tuple(shape) for shape in shapes[:2])
    rank = max(len(one), len(other))
    pairs = zip((1,) * (rank - len(one)) + one, (1,) * (rank - len(other)) + other, strict=True)
    return DIFFERENCES * math.prod(map(max, pairs))


def _windows(given: list[Any], shapes: list[Shape], result: Shape, double: bool) -> int:
    """Of a convolution, and of a transposed one, whose windows are those of its result."""
    image, weight = shapes[:2]
    if not double:
        return 0
    return math.prod(weight[2:]) * max(image[1] * math.prod(result[2:]), result[1] * math.prod(image[2:]))


GATES = 3
"""Copies of the gates of a cell: of both products, and behind their activations."""


def _cell(given: list[Any], shapes: list[Any], _: Shape, double: bool) -> int:
    return GATES * int(shapes[2][0])


EXTRA: dict[str, Callable[[list[Any], list[Any], Shape, bool], int]] = {
    "scaled_dot_product_attention": _attention,
    "einsum": _einsum,
    **dict.fromkeys(("lstm_cell", "gru_cell"), _cell),
    "cosine_similarity": _differences,
    "pairwise_distance": _differences,
    **dict.fromkeys(("conv1d", "conv2d", "conv3d", "convolution"), _windows),
    **dict.fromkeys(("conv_transpose1d", "conv_transpose2d", "conv_transpose3d"), _windows),
}
"""Numbers beside inputs and result: (arguments, their shapes, shape of the result, whether of float64)."""
