# SPDX-License-Identifier: Apache-2.0
"""Where the int8 images lie that native steps read: nodes that leave memory as it is are looked through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from bittern import ops
from bittern.deploy.engine.layout import Layout
from bittern.deploy.engine.native_run import NativeRun
from bittern.deploy.form import Form
from bittern.deploy.kinds.kind import IMAGE_DIMS
from bittern.deploy.program import Node, Program

Forms = Mapping[int, Form]

ROW_DIMS = 2

RESHAPE = "reshape.default"
LAYOUT_OPERATORS = ("permute.default", RESHAPE)
CHANNELS_FIRST, CHANNELS_LAST = [0, 3, 1, 2], [0, 2, 3, 1]


class Source(NamedTuple):
    """Where the images that a group reads lie."""

    value: int
    as_given: bool = False
    """Whether the value has the order of dimensions that the images have in memory, not torch's."""

    def read_by(self, layout: Layout, record: np.ndarray, name: str) -> NativeRun:
        """The run of a record that reads it by this field (`x` or `residual`): in planned memory, else patched."""
        part = ops.part_of(record)
        images = layout.plan.images.get(self.value)
        if images is None:
            patches = [(part, name, 0, self.value)]
            if self.as_given:
                return NativeRun(ops.chosen_isa(), record, as_given=patches)
            return NativeRun(ops.chosen_isa(), record, patches)
        record[part][name] = images.data_ptr()
        record["sizes"]["input" if name == "x" else name] = ops.bytes_of(images)
        return NativeRun(ops.chosen_isa(), record)


def is_images(form: Form, kind: str = "int8") -> bool:
    """Images, or rows of features, of int8 or of another type."""
    return form.type == kind and form.samples_first and len(form.shape) in (ROW_DIMS, IMAGE_DIMS)


def is_layout(node: Node) -> bool:
    """Whether a node only turns or reshapes."""
    return node.kind == "flatten" or (node.kind == "aten" and node.attrs["operator"] in LAYOUT_OPERATORS)


def source_of(program: Program, forms: Forms, value: int) -> Source:
    """Where the images of a value lie: its own, or in front of nodes that leave memory as it is."""
    node = program.producer(value)
    if node is None or not is_layout(node):
        return Source(value)
    before = node.inputs[0]
    if not is_images(forms[before]):
        return Source(value)
    if _is_one_pixel(forms[before]) and _is_one_pixel(forms[value]):
        return source_of(program, forms, before)
    if len(forms[value].shape) == IMAGE_DIMS:
        return Source(before, as_given=True) if _is_given_order(program, node, CHANNELS_FIRST) else Source(value)
    if len(forms[before].shape) != IMAGE_DIMS:
        return Source(value)
    turned = program.producer(before)
    if turned is not None and is_layout(turned) and _is_turn(turned, CHANNELS_LAST):
        return source_of(program, forms, turned.inputs[0])
    return Source(value)


def _is_one_pixel(form: Form) -> bool:
    """Rows of features, or images of one pixel: the same memory."""
    return len(form.shape) == ROW_DIMS or form.shape[2:] == (1, 1)


def _is_turn(node: Node, order: list[int]) -> bool:
    """Whether a node is a permutation to this order."""
    arguments = node.attrs.get("arguments")
    return node.attrs.get("operator") == "permute.default" and isinstance(arguments, list) and arguments[-1] == order


def _is_given_order(program: Program, node: Node, order: list[int]) -> bool:
    """A permutation of what a call gives, which lies as it is given."""
    return _is_turn(node, order) and program.producer(node.inputs[0]) is None
