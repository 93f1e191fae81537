# SPDX-License-Identifier: Apache-2.0
"""A product of bits with what stands behind it: residual, activation and the next layer's signs in one native step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from bittern import ops
from bittern.deploy.bit_stream import to_words
from bittern.deploy.engine.groups.group import AtBatch, Group, Material, always
from bittern.deploy.engine.kernel_parameters import activation_parameters, affine_rows, sign_threshold
from bittern.deploy.engine.layout import Layout
from bittern.deploy.engine.memory_plan import as_images, image_size
from bittern.deploy.engine.native_run import NativeRun
from bittern.deploy.form import Form
from bittern.deploy.kinds.binary import epilogue_rows, has_input_scale, weight_words
from bittern.deploy.kinds.channel_scales import channel_scale
from bittern.deploy.kinds.kind import integer, integers, pair
from bittern.deploy.kinds.node_codes import paddings, weight_factors
from bittern.deploy.program import Node
from bittern.ops import Activation, ResidualRule
from bittern.ops.binary_block.layout import one_array
from bittern.quantizer import InputScale

NO_RULE = ResidualRule()


@dataclass(frozen=True)
class Block(Group):
    """A product and what it takes in. Values are numbers of the program."""

    node: Node
    """The product."""
    taken: tuple[int, ...]
    """Output numbers of all nodes that it replaces, its own included."""
    value: int
    """What the chain has reached so far."""
    residual: int | None = None
    rule: ResidualRule = NO_RULE
    residual_map: Node | None = None
    """The affine node that the residual goes through last."""
    channel_scales: Node | None = None
    """A node of the kind `factors`, whose numbers multiply the product."""
    norm: Node | None = None
    """An affine node, or a bias, that becomes part of the epilogue."""
    activation: Activation = Activation.NONE
    activation_node: Node | None = None
    sign: Node | None = None
    """The encode or threshold node whose bits the block writes."""
    is_real: bool = False
    """Whether anything reads the real result."""

    @property
    def how(self) -> str:
        return "block"

    @property
    def output(self) -> int:
        return self.value

    @property
    def nodes(self) -> tuple[int, ...]:
        return self.taken

    @property
    def reads(self) -> tuple[int, ...]:
        return (*self.node.inputs, *(() if self.residual is None else (self.residual,)))

    @property
    def real(self) -> int | None:
        return self.value if self.is_real else None

    @property
    def bits(self) -> int | None:
        return None if self.sign is None else self.sign.output

    @property
    def view(self) -> bool:
        return False

    @property
    def in_place(self) -> int | None:
        return self.residual if self.rule._replace(last=False) == NO_RULE else None

    def passes_on(self, forms: Mapping[int, Form]) -> int:
        """Of a scaled input its mean per pixel, then the scale of every output pixel."""
        if not has_input_scale(self.node):
            return 0
        sizes = (image_size(forms[value]) for value in (self.node.inputs[1], self.node.output))
        return sum(height * width for height, width, _ in sizes)

    @property
    def borders(self) -> Mapping[int, int | None]:
        """Who pads with -1 or 0 reads the border; who pads with +1, be it one plane, copies the image."""
        node, widest = self.node, max(integers(self.node, "padding"), default=0)
        copies = widest and 1 in paddings(node)
        return {node.inputs[0]: None if copies else widest}

    @property
    def product(self) -> Node | None:
        return self.node

    def does(self) -> str:
        return ", ".join(self._taken()) or "product only"

    def _taken(self) -> list[str]:
        rule = self.rule
        words = (
            ["scaled by input"] * has_input_scale(self.node)
            + ["factors"] * (self.channel_scales is not None)
            + ([] if self.norm is None else ["bias" if self.norm.kind == "bias" else "norm"])
        )
        if self.activation_node is not None:
            words.append(self.activation.name.lower())
        if self.residual is not None:
            arranged = [f"{rule.pool}x{rule.pool} mean"] * (rule.pool > 1) + ["doubled"] * rule.repeats
            arranged += ["padded"] * (rule.shift > 0) + ["scaled"] * (self.residual_map is not None)
            details = f" ({', '.join(arranged)})" if arranged else ""
            after = rule.last or self.activation_node is None
            words.insert(len(words) if after else len(words) - 1, f"residual{details}")
        if self.sign is not None:
            words.append("sign" if self.is_real else "sign only")
        return words

    # -- preparing

    def prepare(self, material: Material) -> AtBatch:
        node, tensors = self.node, material.tensors
        words = weight_words(node, node.named(tensors))
        kernel = pair(integers(node, "kernel"), 1)
        epilogue, threshold = self._epilogue(tensors, words)
        padded = paddings(node)
        prepared = ops.PreparedBlock(
            torch.stack([plane.reshape(plane.shape[0], *kernel, plane.shape[-1]) for plane in words]),
            integer(node, "channels"),
            pair(integers(node, "stride"), 1),
            pair(integers(node, "padding"), 0),
            pair(integers(node, "dilation"), 1),
            integer(node, "groups"),
            padded[0] if len(padded) == 1 else min(padded),
            epilogue,
            self.activation,
            activation_parameters(self.activation_node, self.activation, integer(node, "out_channels"), tensors),
            self.rule,
            threshold,
            affine_rows(self.residual_map, tensors),
            self._factor(material),
            last_factor=weight_factors(node)[-1],
            raised=self._raised(),
        )
        return always(self, partial(self._run, prepared))

    def _raised(self) -> int:
        """Bit j: plane j of several is padded with +1; none where nothing is padded, for borders are then free."""
        padded = paddings(self.node)
        if len(padded) == 1 or not any(integers(self.node, "padding")):
            return 0
        return sum(1 << j for j, pad in enumerate(padded) if pad == 1)

    def _epilogue(self, tensors: Mapping[str, Tensor], words: list[Tensor]) -> tuple[Tensor, Tensor | None]:
        """(rows of the epilogue, threshold of the sign)."""
        if self.node.attrs["result"] == "acc":
            assert self.sign is not None
            return _integer_sign(self.sign.named(tensors))
        epilogue = epilogue_rows(self.node, self.node.named(tensors), words)
        if self.norm is not None and self.norm.kind == "bias":
            epilogue[3] = tensors[self.norm.tensors["bias"]]
        elif self.norm is not None:
            epilogue[2:] = tensors[self.norm.tensors["affine"]]
        return epilogue, None if self.sign is None else sign_threshold(self.sign, tensors)

    def _factor(self, material: Material) -> Tensor | None:
        """Its channel scales, float32 [height or 1, width or 1, channels]."""
        node = self.channel_scales
        if node is None:
            return None
        gamma, form = channel_scale(node, node.named(material.tensors)), material.forms[node.output]
        whole = gamma.view((1,) * (len(form.shape) - gamma.ndim) + gamma.shape)
        shape = (1, form.channels, *whole.shape[2:])  # what repeats along the space is stored once
        return as_images(whole.expand(shape))[0]

    # -- running

    def _run(self, prepared: ops.PreparedBlock, layout: Layout) -> NativeRun:
        source, scale, records, strided = self.node.inputs[0], None, [], []
        if has_input_scale(self.node):
            record, scale, planned = self._input_scale(layout)
            records.append(record)
            strided += [] if planned else [("input_scale", 0, self.node.inputs[1])]
        own = len(records)
        x, patches = layout.bits_at(source, ("conv", "input", own, source))
        residual = None
        if self.residual is not None:
            residual, planned = layout.images_at(self.residual)
            patches += [] if planned else [("tail", "residual", own, self.residual)]
        real = layout.plan.images[self.value] if self.is_real else None
        bits = None if self.bits is None else layout.plan.bits[self.bits]
        records.append(prepared.step(x, residual, real, bits, scale))
        return NativeRun(prepared.isa, one_array(records), patches, strided, layout.rows)

    def _input_scale(self, layout: Layout) -> tuple[np.ndarray, Tensor, bool]:
        """(record that computes the scale of the input, its result, whether the input is in planned memory)."""
        node = self.node
        images, planned = layout.images_at(node.inputs[1])
        means, scale = layout.passed_on([images.shape[1:3], layout.size(node.output)[1:3]])
        window = None
        if node.attrs["input_scale"] == InputScale.SPATIAL.value or node.attrs["dims"] == 0:
            kernel, stride, dilation = (pair(integers(node, key), 1) for key in ("kernel", "stride", "dilation"))
            window = ops.Window(kernel, stride, pair(integers(node, "padding"), 0), dilation)
        return ops.input_scale_step(images, window, means, scale), scale, planned


def _integer_sign(named: Mapping[str, Tensor]) -> tuple[Tensor, Tensor]:
    """(epilogue, threshold) of (acc >= T) != falls: acc >= T, or -acc >= 1 - T where it falls; exact in float32."""
    limits = named["threshold"].float()
    rises = torch.ones_like(limits)
    if "flip" in named:
        flips = to_words(named["flip"], 1, 1, limits.numel())[0, 0]
        rises = -ops.unpack_signs(flips, limits.numel())
    zero = torch.zeros_like(limits)
    threshold = torch.where(rises > 0, limits, 1 - limits)
    return torch.stack([zero, torch.ones_like(limits), rises, zero]), threshold
