# SPDX-License-Identifier: Apache-2.0
"""A packed network of integers that takes and gives integers, too: no float is left at its ends.

int8 in    the integers that the node `quantize` would make
uint8 in   the bytes p of images; a table for each channel has the integers of (p / 255 - mean) / std, the very ones
           that `quantize` makes of images normalized so
int8 out   the integers behind the last node `dequantize`
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor

from bittern.deploy.errors import PackError
from bittern.deploy.image_info import ImageInfo
from bittern.deploy.integer_ends import End
from bittern.deploy.kinds.integer.conversions import DEQUANTIZE, QUANTIZE
from bittern.deploy.kinds.integer.table import CHANNEL_TABLES
from bittern.deploy.kinds.kind import IMAGE_DIMS, integer, number
from bittern.deploy.program import Node, Program, tensor_name

INPUT_TYPES, OUTPUT_TYPES = ("float32", "int8", "uint8"), ("float32", "int8")
PIXELS = 256


class Ends(NamedTuple):
    """A program with other ends, its tensors, and what is to be said of it."""

    program: Program
    tensors: dict[str, Tensor]
    info: dict[str, str]
    images: ImageInfo


def with_ends(
    program: Program, tensors: dict[str, Tensor], images: ImageInfo, input_type: str, output_type: str
) -> Ends:
    """images: with mean and std where bytes are taken, which are then part of the program: what is said is 0 and 1.

    Raises: PackError for types that are none, and for ends that a layer of floats reads or writes.
    """
    for name, type_, types in (("input_type", input_type, INPUT_TYPES), ("output_type", output_type, OUTPUT_TYPES)):
        if type_ not in types:
            raise PackError(f"pack: {name} must be one of {', '.join(types)}; got {type_!r}")
    info: dict[str, str] = {}
    if output_type == "int8":
        program, end = _integers_out(program)
        info |= end.to_info("output")
    if input_type != "float32":
        node = _quantizing(program)
        if input_type == "int8":
            info |= End(number(node, "scale"), integer(node, "zero")).to_info("input")
            program = program.rewritten({node.output: ()}, {node.output: 0})
        else:
            tables = pixel_tables(program, images, node)
            role = {"tables": tensor_name(node.name, "tables")}
            lookup = Node(CHANNEL_TABLES.name, node.name, (0,), node.output, {}, role)
            program, tensors = program.rewritten({node.output: (lookup,)}, {}), {**tensors, role["tables"]: tables}
            info |= End(1 / 255, 0).to_info("input")
            channels = len(tables)
            images = replace(images, mean=(0.0,) * channels, std=(1.0,) * channels)
        program = replace(program, inputs=(replace(program.inputs[0], type=input_type),))
    return Ends(program, tensors, info, images)


def _integers_out(program: Program) -> tuple[Program, End]:
    """Raises: PackError."""
    last = program.producer(program.output)
    if last is None or last.kind != DEQUANTIZE.name:
        name = "nothing" if last is None else f"{last.name!r} ({last.kind})"
        raise PackError(
            f"pack: output_type='int8' needs one answer that a layer of integers gives; this network ends in {name}, "
            "which is no such layer; leave the option out"
        )
    nodes = program.nodes
    if not program.consumers(last.output):
        nodes = tuple(node for node in nodes if node is not last)
    end = End(number(last, "scale"), integer(last, "zero"))
    return replace(program, nodes=nodes, output=last.inputs[0]), end


def _quantizing(program: Program) -> Node:
    """The one node that reads the input. Raises: PackError."""
    readers = program.consumers(0)
    one = len(program.inputs) == 1 and len(readers) == 1 and program.output != 0
    if one and readers[0].kind == QUANTIZE.name:
        return readers[0]
    names = ", ".join(repr(node.name) for node in readers if node.kind != QUANTIZE.name)
    what = f"it is read by {names}" if names else f"this network has {len(program.inputs)} inputs"
    raise PackError(
        f"pack: input_type needs one input that layers of integers alone read; {what}; leave the option out"
    )


def pixel_tables(program: Program, images: ImageInfo, node: Node) -> Tensor:
    """What a node `quantize` makes of each byte behind normalization: int8 [channels, 256].

    Raises: PackError for what are no images, or images of which nothing is said.
    """
    if images.mean is None or images.std is None:
        raise PackError("pack: input_type='uint8' takes the bytes of images; give mean= and std=, or data=, with it")
    shape = program.inputs[0].shape
    if len(shape) != IMAGE_DIMS - 1:
        raise PackError(f"pack: input_type='uint8' is for images [channels, height, width]; inputs are {list(shape)}")
    found: Tensor = QUANTIZE.build(node, {}, torch.device("cpu"))(normalized_bytes(images.mean, images.std))
    return found


def normalized_bytes(mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """What every byte is behind normalization: float32 [channels, 256]."""
    from bittern.data import normalize

    pixels = torch.arange(PIXELS, dtype=torch.uint8).expand(1, len(mean), 1, PIXELS)
    return normalize(pixels, mean, std)[0, :, 0]
