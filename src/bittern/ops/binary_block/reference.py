# SPDX-License-Identifier: Apache-2.0
"""The meaning of `binary_block` in plain torch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern.ops._epilogue import fused_multiply_add
from bittern.ops.binary_block.arguments import BlockArguments
from bittern.ops.binary_block.layout import Activation
from bittern.ops.binary_conv2d.reference import binary_conv2d_reference
from bittern.ops.pack_signs.reference import pack_signs_reference


def binary_block_reference(a: BlockArguments) -> tuple[Tensor, Tensor]:
    """y = activation(epilogue(conv(x, w)) + residual), or the residual last; and the bits of y >= threshold."""
    first, rest = parted(a.epilogue, factors_of(a))
    y = rest(binary_conv2d_reference(a.conv2d._replace(epilogue=first)))
    return finished(a, y, pack_signs_reference)


def factors_of(a: BlockArguments) -> list[Tensor]:
    """What multiplies behind the scale, in this order, each with a rounding of its own."""
    spread = None if a.input_scale is None else a.input_scale.unsqueeze(-1)
    return [factor for factor in (spread, a.factor) if factor is not None]


def parted(epilogue: Tensor, factors: Sequence[Tensor]) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """(the epilogue of the product, what follows it): with factors only offset and scale come before those."""
    if not factors:
        return epilogue, lambda y: y
    first = torch.stack([*epilogue[:2], torch.ones_like(epilogue[2]), torch.zeros_like(epilogue[3])])

    def rest(y: Tensor) -> Tensor:
        for factor in factors:
            y = y * factor
        return fused_multiply_add(y, epilogue[2], epilogue[3])

    return first, rest


def arranged(a: BlockArguments) -> Tensor | None:
    """The residual of every output pixel and channel, NHWC."""
    residual, pool, affine = a.residual, a.residual_pool, a.residual_affine
    if residual is None:
        return None
    if pool > 1:
        pooled = F.avg_pool2d(residual.permute(0, 3, 1, 2).contiguous(), pool, pool, ceil_mode=True)
        residual = pooled.permute(0, 2, 3, 1)
    source = torch.arange(a.w.shape[0], device=residual.device) - a.residual_shift
    if a.residual_repeats:
        found = residual[..., source % residual.shape[-1]]
    else:
        inside = (source >= 0) & (source < residual.shape[-1])
        taken = residual[..., source.clamp(0, residual.shape[-1] - 1)]
        found = torch.where(inside, taken, torch.zeros_like(taken))
    return found if affine is None else fused_multiply_add(found, affine[0], affine[1])


def activated(y: Tensor, activation: Activation, parameters: Tensor | None) -> Tensor:
    """activation(y) with parameters [n, out] that broadcast over the last dimension of y."""
    if activation is Activation.RELU:
        return F.relu(y)
    if parameters is None:
        return y
    if activation is Activation.HARDTANH:
        return torch.minimum(torch.maximum(y, parameters[0]), parameters[1])
    if activation is Activation.PRELU:
        return torch.where(y > 0, y, parameters[0] * y)
    t = y - parameters[0]
    return torch.where(t > 0, t, parameters[1] * t) + parameters[2]


def finished(a: BlockArguments, y: Tensor, pack: Callable[[Tensor, Tensor | None], Tensor]) -> tuple[Tensor, Tensor]:
    """Residual, activation and bits of a convolution's real result."""
    addend = arranged(a)
    if addend is not None and not a.residual_last:
        y = y + addend
    y = activated(y, Activation(a.activation), a.parameters)
    if addend is not None and a.residual_last:
        y = y + addend
    return y, pack(y, a.threshold)
