# SPDX-License-Identifier: Apache-2.0
"""binary_block(x, w, ...): a binary convolution and all that stands between it and the next one, in one pass.

x, w, channels, stride, padding, dilation, groups, pad_value: as in `binary_conv2d`.
epilogue: float32 [4, out], rows offset, scale, alpha, beta. activation: a number of `layout.Activation`, with its
parameters float32 [n, out]. residual: float32 NHWC. threshold: float32 [out], 0 where there is none.
factor: float32 [out_h, out_w, out], input_scale: float32 [batch, out_h, out_w], 1 where there is none.

    y = fma(fl(fl(fl(fl(acc + offset) * scale) * input_scale) * factor), alpha, beta)
    y = fl(y + r);  y = activation(y);  bits = y >= threshold

or activation first where `residual_last`. r is the residual's channel c - shift (modulo its channels if
`residual_repeats`, else 0 where it has none), averaged over residual_pool x residual_pool pixels, fewer at an edge,
then mapped by residual_affine (float32 [2, out], rows alpha and beta, rounded once) if given.
-> (y float32 [batch, out_h, out_w, out], bits int64 [batch, out_h, out_w, ceil(out / 64)]).
`PreparedBlock` is the same with weights laid out once and outputs that may be left out; several run in one native call.
Errors: TypeError / ValueError for wrong dtypes, shapes or geometry.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bittern.ops._check import check_dtype, check_same_device, words_for
from bittern.ops._op import Op, lazily
from bittern.ops.binary_block.arguments import BlockArguments
from bittern.ops.binary_block.cpu import (
    PreparedBlock,
    ResidualRule,
    Steps,
    binary_block_cpu,
    encode_step,
    run_steps,
)
from bittern.ops.binary_block.images import BitImages
from bittern.ops.binary_block.layout import Activation, bytes_of, part_of
from bittern.ops.binary_block.reference import binary_block_reference
from bittern.ops.binary_conv2d import check_conv2d

__all__ = [
    "Activation",
    "BitImages",
    "PreparedBlock",
    "ResidualRule",
    "Steps",
    "binary_block",
    "bytes_of",
    "encode_step",
    "part_of",
    "run_steps",
]


REALS = ("parameters", "threshold", "residual", "residual_affine", "factor", "input_scale")
"""Arguments that are float32."""


def _check(a: BlockArguments) -> None:
    op = "binary_block"
    check_conv2d(op, a.conv2d)
    out = a.w.shape[0]
    if a.activation not in list(Activation):
        raise ValueError(f"{op}: activation must be one of {[int(k) for k in Activation]}; got {a.activation}")
    wanted = len(Activation(a.activation).parameters)
    given = () if a.parameters is None else tuple(a.parameters.shape)
    if given != ((wanted, out) if wanted else ()):
        name = Activation(a.activation).name
        raise ValueError(f"{op}: {name} takes parameters [{wanted}, {out}]; got {list(given)}")
    if a.residual_affine is not None and (a.residual is None or tuple(a.residual_affine.shape) != (2, out)):
        raise ValueError(
            f"{op}: residual_affine must be [2, {out}] beside a residual; got {list(a.residual_affine.shape)}"
        )
    if a.threshold is not None and tuple(a.threshold.shape) != (out,):
        raise ValueError(f"{op}: threshold must be [{out}]; got {list(a.threshold.shape)}")
    reals = {name: getattr(a, name) for name in REALS}
    for name, tensor in reals.items():
        if tensor is not None:
            check_dtype(op, name, tensor, (torch.float32,))
    check_same_device(op, x=a.x, **reals)
    size = a.conv2d.output_size
    if a.factor is not None and tuple(a.factor.shape) != (*size, out):
        raise ValueError(f"{op}: factor must be {[*size, out]}; got {list(a.factor.shape)}")
    pixels = (a.x.shape[0], *size)
    if a.input_scale is not None and tuple(a.input_scale.shape) != pixels:
        raise ValueError(f"{op}: input_scale must be {list(pixels)}; got {list(a.input_scale.shape)}")
    _check_residual(op, a, pixels)


def _check_residual(op: str, a: BlockArguments, pixels: tuple[int, ...]) -> None:
    pool, shift, repeats = a.residual_pool, a.residual_shift, a.residual_repeats
    if a.residual is None:
        if (pool, shift, repeats, a.residual_last) != (1, 0, False, False):
            raise ValueError(f"{op}: the options of a residual need one; got none")
        return
    if pool < 1:
        raise ValueError(f"{op}: residual_pool must be at least 1; got {pool}")
    if repeats and shift:
        raise ValueError(f"{op}: a residual that repeats has no shift; got {shift}")
    batch, height, width = pixels
    shape = tuple(a.residual.shape)
    fits = len(shape) == 4 and shape[0] == batch and shape[3] > 0
    if not fits or (-(-shape[1] // pool), -(-shape[2] // pool)) != (height, width):
        raise ValueError(
            f"{op}: residual must be [{batch}, {pool} * {height}, {pool} * {width}, channels], or a little less at an "
            f"edge; got {list(shape)}"
        )


def _fake(a: BlockArguments) -> tuple[Tensor, Tensor]:
    pixels, out = (a.x.shape[0], *a.conv2d.output_size), a.w.shape[0]
    return a.x.new_empty((*pixels, out), dtype=torch.float32), a.x.new_empty((*pixels, words_for(out)))


binary_block: Op[tuple[Tensor, Tensor]] = Op(
    "binary_block(Tensor x, Tensor w, int channels, int[] stride, int[] padding, int[] dilation, int groups, "
    "int pad_value, Tensor epilogue, int activation=0, Tensor? parameters=None, Tensor? threshold=None, "
    "Tensor? residual=None, int residual_pool=1, int residual_shift=0, bool residual_repeats=False, "
    "bool residual_last=False, Tensor? residual_affine=None, Tensor? factor=None, "
    "Tensor? input_scale=None) -> (Tensor, Tensor)",
    record=BlockArguments,
    check=_check,
    reference=binary_block_reference,
    fake=_fake,
    cpu=binary_block_cpu,
    cuda=lazily("bittern.ops.binary_block.cuda", "binary_block_cuda"),
)
