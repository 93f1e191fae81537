# SPDX-License-Identifier: Apache-2.0
"""Rewrites of a program that change no bit: signs first, batch norm into the epilogue, batch norm + sign into integers.

**Signs first.** Signs move in front of max pools and concatenations (`hoist_signs`).

**Batch norm.** torch's batch norm in eval mode on a CPU with FMA is y = fma(x, alpha, beta) with
alpha = rsqrt(var + eps) * gamma and beta = fma(-mean, alpha, bias), which is the last step of the kernels' epilogue
(docs/numerics.md). Each layer is probed against torch before it is folded: where another build of torch rounds
otherwise the layer stays as it is, so the answers never depend on this.

**Thresholds.** Where only a sign reads the result, the float is not needed. The float y is a monotone function of the
integer acc (every rounding is monotone), so the sign's comparison y >= t is a comparison of acc with an integer. That
integer is found by bisection through the epilogue itself, hence exact at every tie; a channel that falls with acc is
stored as the complement of a rising one (`flip`).
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern.deploy.bit_stream import to_stream
from bittern.deploy.form import Form
from bittern.deploy.hoist_signs import channels_are_first, hoist_signs
from bittern.deploy.kinds.binary import epilogue_rows, has_input_scale, is_single, taps, weight_words
from bittern.deploy.kinds.bits import half_open_threshold
from bittern.deploy.kinds.kind import integer
from bittern.deploy.kinds.node_codes import has_levels
from bittern.deploy.named_sizes import at_example
from bittern.deploy.program import Node, Program, tensor_name
from bittern.deploy.shapes import forms_of
from bittern.ops import apply_epilogue, fused_multiply_add

Tensors = dict[str, Tensor]

PROBED = 2**17
"""Numbers that a batch norm is probed with where it has many channels: how torch rounds is not a matter of one."""

LEAST_PROBES, MOST_PROBES = 4, 64
"""Images of 3 x 5 among them: each channel is probed 60 to 960 times."""


def fold(program: Program, tensors: Tensors) -> tuple[Program, Tensors]:
    """Apply all rewrites wherever they fit, keep equal tensors once, and drop those that nothing reads any more."""
    tensors = dict(tensors)
    program = hoist_signs(program, tensors)
    program = _fold_batch_norms(program, tensors)
    program = _fold_thresholds(program, tensors)
    program = _share_tensors(program, tensors)
    used = {name for node in program.nodes for name in node.tensors.values()}
    return program, {name: tensor for name, tensor in tensors.items() if name in used}


def _share_tensors(program: Program, tensors: Tensors) -> Program:
    """Nodes of a layer that is called several times read the same tensors: those of its first call."""
    first: dict[tuple[object, ...], list[str]] = {}
    shared: dict[str, str] = {}
    for name, tensor in tensors.items():
        bits = _bits(tensor)
        alike = first.setdefault((tensor.dtype, tensor.shape, zlib.crc32(bits.numpy().data)), [])
        shared[name] = next((other for other in alike if torch.equal(_bits(tensors[other]), bits)), name)
        if shared[name] == name:
            alike.append(name)
    nodes = (
        replace(node, tensors={role: shared[name] for role, name in node.tensors.items()}) for node in program.nodes
    )
    return replace(program, nodes=tuple(nodes))


def _bits(tensor: Tensor) -> Tensor:
    return tensor.contiguous().view(-1).view(torch.uint8)


def _single_plane(node: Node) -> bool:
    return node.kind == "binary" and is_single(node)


# -- batch norm --------------------------------------------------------------------------------------------


def batch_norm_affine(tensors: Tensors, node: Node) -> Tensor | None:
    """Rows alpha and beta of a batch norm node, or None where torch does not compute fma(x, alpha, beta) here."""
    mean, var = tensors[node.tensors["mean"]], tensors[node.tensors["var"]]
    gamma = tensors[node.tensors["weight"]] if "weight" in node.tensors else torch.ones_like(mean)
    bias = tensors[node.tensors["bias"]] if "bias" in node.tensors else torch.zeros_like(mean)
    eps = node.attrs["eps"]
    assert isinstance(eps, float)
    alpha = torch.rsqrt(var + eps) * gamma
    beta = fused_multiply_add(-mean, alpha, bias)
    images = max(LEAST_PROBES, min(MOST_PROBES, -(-PROBED // (15 * max(1, mean.numel())))))
    generator = torch.Generator().manual_seed(0)
    probe = torch.randn(images, mean.numel(), 3, 5, dtype=torch.float32, generator=generator) * 100
    expected = F.batch_norm(probe, mean, var, gamma, bias, False, 0.0, eps)
    got = fused_multiply_add(probe, alpha.view(1, -1, 1, 1), beta.view(1, -1, 1, 1))
    return torch.stack([alpha, beta]) if torch.equal(expected, got) else None


def _fold_batch_norms(program: Program, tensors: Tensors) -> Program:
    """Batch norms behind a low-bit layer into its epilogue, all others to `affine` nodes."""
    changed: dict[int, list[Node]] = {}
    renamed: dict[int, int] = {}
    forms = forms_of(at_example(program), tensors)
    for norm in program.nodes:
        affine = batch_norm_affine(tensors, norm) if norm.kind == "batch_norm" else None
        if affine is None:
            continue
        node = program.producer(norm.inputs[0])
        if node is not None and program.single_consumer(node.output) is norm and _takes_affine(node, forms):
            name = tensor_name(node.name, "epilogue")
            rows = tensors[name] if "epilogue" in node.tensors else affine[:0]
            tensors[name] = torch.cat([rows, affine])
            epilogue = "affine" if node.attrs["epilogue"] == "none" else "scale+affine"
            changed[node.output] = [node.with_attrs(epilogue=epilogue).with_tensors(epilogue=name)]
            changed[norm.output] = []
            renamed[norm.output] = node.output
        else:
            name = tensor_name(norm.name, "affine")
            tensors[name] = affine
            changed[norm.output] = [Node("affine", norm.name, norm.inputs, norm.output, {}, {"affine": name})]
    return program.rewritten(changed, renamed)


def _takes_affine(node: Node, forms: Mapping[int, Form]) -> bool:
    """Whether the epilogue of a node can do what a batch norm of its result does: the norm's channels are its own."""
    if not _single_plane(node) or has_input_scale(node):
        return False
    own = channels_are_first(node, len(forms[node.output].shape))
    return own and node.attrs["epilogue"] in ("none", "scale")


# -- thresholds --------------------------------------------------------------------------------------------


def _fold_thresholds(program: Program, tensors: Tensors) -> Program:
    changed: dict[int, list[Node]] = {}
    renamed: dict[int, int] = {}
    for node in program.nodes:
        if not _single_plane(node) or has_input_scale(node):
            continue
        clamps: list[Node] = []
        reader = program.single_consumer(node.output)
        while reader is not None and reader.kind == "hardtanh":
            clamps.append(reader)
            reader = program.single_consumer(reader.output)
        if reader is None or reader.kind != "encode" or reader.attrs["planes"] != 1:
            continue
        if reader.attrs["dims"] != node.attrs["dims"]:
            continue  # the channels of one are positions of the other
        threshold, falls = integer_thresholds(node, clamps, reader, tensors)
        names = {"threshold": tensor_name(reader.name, "threshold")}
        tensors[names["threshold"]] = threshold
        if bool(falls.any()):
            names["flip"] = tensor_name(reader.name, "flip")
            tensors[names["flip"]] = to_stream(falls.view(1, -1))
        kept = {role: name for role, name in node.tensors.items() if role == "weight"}
        changed[node.output] = [replace(node.with_attrs(result="acc", epilogue="none"), tensors=kept)]
        for clamp in clamps:
            changed[clamp.output] = []
        attrs = {"channels": integer(node, "out_channels")}
        changed[reader.output] = [Node("threshold", reader.name, (node.output,), reader.output, attrs, names)]
    return program.rewritten(changed, renamed)


def integer_thresholds(node: Node, clamps: list[Node], sign: Node, tensors: Tensors) -> tuple[Tensor, Tensor]:
    """(threshold int32 [out], falls bool [out]): the sign is +1 where (acc >= threshold) != falls.

    acc is the plain +-1 accumulator (without the offset of codes with levels), of which |acc| <= K.
    """
    out = integer(node, "out_channels")
    fan_in = taps(node) * integer(node, "channels") // integer(node, "groups")
    positive = _predicate(node, clamps, sign, tensors)
    lowest, highest = torch.full((out,), -fan_in), torch.full((out,), fan_in)
    falls = positive(lowest) & ~positive(highest)
    # Bisection; invariant: (positive != falls) is false up to `below` and true from `reached` on, where the two
    # ends -K - 1 and K + 1 lie outside what acc can be: a constant channel ends at -K (always) or K + 1 (never).
    below, reached = lowest - 1, highest + 1
    while bool((reached - below > 1).any()):
        middle = (below + reached).div(2, rounding_mode="floor")
        hit = positive(middle) != falls
        undecided = reached - below > 1
        reached = torch.where(undecided & hit, middle, reached)
        below = torch.where(undecided & ~hit, middle, below)
    return reached.to(torch.int32), falls


def _predicate(node: Node, clamps: list[Node], sign: Node, tensors: Tensors) -> Callable[[Tensor], Tensor]:
    """Function acc int64 [out] -> bool [out]: whether the training graph's sign is +1 there."""
    named = node.named(tensors)
    epilogue = epilogue_rows(node, named, weight_words(node, named))
    if has_levels(sign):
        limit = torch.tensor(half_open_threshold(), dtype=torch.float32)
    else:
        limit = (
            tensors[sign.tensors["threshold"]]
            if "threshold" in sign.tensors
            else torch.tensor(0.0, dtype=torch.float32)
        )

    def positive(acc: Tensor) -> Tensor:
        y = apply_epilogue(acc, epilogue)
        for clamp in clamps:
            y = F.hardtanh(y, float(clamp.attrs["least"]), float(clamp.attrs["most"]))  # type: ignore[arg-type]
        return y >= limit

    return positive
