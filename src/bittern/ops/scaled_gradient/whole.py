# SPDX-License-Identifier: Apache-2.0
"""The same where y holds whole numbers of up to 15 bits and a sign: those are kept as 16 bits, 32768 higher.

Plain functions for autograd functions, no ops: float32 on the CPU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bittern import _native
from bittern.ops._isa import Isa, chosen_isa, threads

LIFT = 32768


def scale_whole(y: Tensor, factor: Tensor, isa: Isa | None = None) -> tuple[Tensor, Tensor] | None:
    """y * factor and uint16 y + 32768, or None where y holds another number.

    y [rows, n], factor [n]: float32 on the CPU, contiguous.
    """
    _check("scale_whole", y, torch.float32, factor)
    out, lifted = torch.empty_like(y), torch.empty(y.shape, dtype=torch.uint16, device="cpu")
    given = (y.data_ptr(), factor.data_ptr(), *y.shape, out.data_ptr(), lifted.data_ptr())
    isa = chosen_isa() if isa is None else isa
    return (out, lifted) if _native.scale_whole(isa, threads(), *given) else None


def scaled_gradient_of_whole(
    grad: Tensor, lifted: Tensor, factor: Tensor, isa: Isa | None = None
) -> tuple[Tensor, Tensor]:
    """`scaled_gradient` of what `scale_whole` made of y, with the same bits."""
    _check("scaled_gradient_of_whole", grad, torch.float32, factor)
    _check("scaled_gradient_of_whole", lifted, torch.uint16, factor)
    to_y, to_factor = torch.empty_like(grad), torch.empty_like(factor)
    rows, n = grad.shape
    given = (grad.data_ptr(), lifted.data_ptr(), factor.data_ptr(), rows, n)
    isa = chosen_isa() if isa is None else isa
    _native.scaled_gradient_of_whole(isa, threads(), *given, to_y.data_ptr(), to_factor.data_ptr())
    return to_y, to_factor


def lowered(lifted: Tensor) -> Tensor:
    """The numbers: float32."""
    return lifted.float() - LIFT


def _check(name: str, rows: Tensor, dtype: torch.dtype, factor: Tensor) -> None:
    laid_out = rows.is_contiguous() and factor.is_contiguous() and rows.is_cpu and factor.is_cpu
    fits = rows.ndim == 2 and factor.shape == rows.shape[1:] and rows.dtype == dtype and factor.dtype == torch.float32
    if not (laid_out and fits):
        raise ValueError(
            f"{name}: needs contiguous {dtype} [rows, n] and float32 [n] on the CPU; "
            f"got {list(rows.shape)} {rows.dtype} and {list(factor.shape)} {factor.dtype}; flatten what rows share, "
            "and call x.contiguous()"
        )
