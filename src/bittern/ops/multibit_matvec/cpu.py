# SPDX-License-Identifier: Apache-2.0
"""`multibit_matvec` on the CPU, by native code, and its weights prepared for repeated use."""

from __future__ import annotations

import torch
from torch import Tensor

from bittern import _native
from bittern.ops._check import check_same_device
from bittern.ops._isa import Isa, chosen_isa, threads
from bittern.ops.multibit_matvec.arguments import MultibitMatvecArguments
from bittern.ops.multibit_matvec.check import OP, check_planes, check_weight
from bittern.ops.multibit_quantize.arguments import MultibitQuantizeArguments
from bittern.ops.multibit_quantize.check import check as check_quantize


class PreparedMultibitMatvec:
    """`multibit_matvec` with a fixed weight, laid out once in the order in which this CPU's kernel reads it.

    w: int64 [k_w, rows, words], w_scale: float32 [rows, k_w], in_features, bias: float32 [rows] or None. Call with x
    int64 [k_h, *batch, words] and x_scale float32 [*batch, k_h] -> float32 [*batch, rows]; or call `quantized`.
    Errors: TypeError / ValueError as the op's.
    """

    def __init__(
        self, w: Tensor, w_scale: Tensor, in_features: int, bias: Tensor | None = None, isa: Isa | None = None
    ) -> None:
        check_weight(w, w_scale, in_features, bias)
        self.isa = chosen_isa() if isa is None else isa
        self.planes, self.rows = w.shape[:2]
        self.in_features = in_features
        self._known: tuple[tuple[object, ...], int, tuple[int, ...]] | None = None
        """Of the last real input that was seen to be right: shape, type and how its planes are found; how many rows it
        has; the shape of the result."""
        self._scale = w_scale.t().contiguous()
        self._bias = None if bias is None else bias.contiguous()
        w = w.contiguous()
        sizes = (self.planes, self.rows, in_features)
        self._weights = torch.empty(_native.multibit_bytes(self.isa, *sizes), dtype=torch.uint8, device="cpu")
        _native.multibit_prepare(self.isa, w.data_ptr(), *sizes, self._weights.data_ptr())

    def __call__(self, x: Tensor, x_scale: Tensor) -> Tensor:
        check_planes("x", x, x_scale, self.in_features)
        if not (x.is_cpu and x_scale.is_cpu):
            check_same_device(OP, x=x, x_scale=x_scale, w_scale=self._scale)
        return self._multiplied(x.contiguous(), x_scale.contiguous())

    def _multiplied(self, x: Tensor, x_scale: Tensor) -> Tensor:
        batch = x_scale.shape[:-1]
        out = self._scale.new_empty((*batch, self.rows))
        _native.multibit_matvec(
            self.isa,
            threads(),
            x.data_ptr(),
            x_scale.data_ptr(),
            batch.numel(),
            len(x),
            *self._numbers(),
            out.data_ptr(),
        )
        return out

    def quantized(
        self, x: Tensor, planes: int, cycles: int = 2, refined: bool = False, out: Tensor | None = None
    ) -> Tensor:
        """The product with the planes of a real x [*batch, in_features], in one native call.

        The bits of `self(*multibit_quantize(x, planes, cycles, refined))`; errors as there.
        out: float32 [*batch, rows], contiguous and no part of x, to write to, for calls in a loop: memory of its own
        takes a tenth of a small product. It is what comes back. ValueError for another.
        """
        signature = (x.shape, x.dtype, planes, cycles, refined)
        known = self._known
        if known is None or signature != known[0] or not x.is_cpu:
            self._check_real(x, planes, cycles, refined)
            batch = x.shape[:-1]
            known = self._known = signature, batch.numel(), (*batch, self.rows)
        _, inputs, shape = known
        if x.dtype != torch.float32:
            x = x.float()
        if not x.is_contiguous():
            x = x.contiguous()
        if out is None:
            out = self._scale.new_empty(shape)
        elif out.shape != shape or out.dtype != torch.float32 or not (out.is_cpu and out.is_contiguous()):
            raise self._wrong_out(shape, out)
        _native.multibit_linear(
            self.isa,
            threads(),
            x.data_ptr(),
            inputs,
            planes,
            cycles,
            refined,
            *self._numbers(),
            out.data_ptr(),
        )
        return out

    def _check_real(self, x: Tensor, planes: int, cycles: int, refined: bool) -> None:
        check_quantize(MultibitQuantizeArguments(x, planes, cycles, refined))
        if not x.is_cpu:
            check_same_device(OP, x=x, w_scale=self._scale)
        if x.shape[-1] != self.in_features:
            raise ValueError(f"{OP}: x must be [..., {self.in_features}]; got {list(x.shape)}")

    def _wrong_out(self, shape: tuple[int, ...], out: Tensor) -> ValueError:
        return ValueError(
            f"{OP}: out must be float32 {list(shape)}, contiguous, on the CPU; got {out.dtype} {list(out.shape)} of "
            f"strides {list(out.stride())} on {out.device}"
        )

    def _numbers(self) -> tuple[int, int, int, int, int, int]:
        """The weight as native code takes it."""
        bias = 0 if self._bias is None else self._bias.data_ptr()
        return (
            self._weights.data_ptr(),
            self._scale.data_ptr(),
            bias,
            self.planes,
            self.rows,
            self.in_features,
        )


def multibit_matvec_cpu(isa: Isa, a: MultibitMatvecArguments) -> Tensor:
    return PreparedMultibitMatvec(a.w, a.w_scale, a.in_features, a.bias, isa)(a.x, a.x_scale)
