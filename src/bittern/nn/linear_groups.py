# SPDX-License-Identifier: Apache-2.0
"""LinearGroups: a frozen linear layer of integer weights, 2, 3, 4 or 8 bits, in groups along its inputs."""

from __future__ import annotations

from typing import Any, Literal, Self

import torch
from torch import Tensor, nn

from bittern.codes import Code, Integers, PerInputGroup, PerOutputChannel
from bittern.nn._frozen import FrozenLinear, not_finite, weight_of
from bittern.nn.group_codes import GroupCodes, round_to_groups
from bittern.ops.linear_groups import dequantize_groups, linear_groups, most_columns
from bittern.ops.linear_groups.layout import GROUPS, PLANES, groups_of, pack_codes, pack_rows, unpack_codes, unpack_rows

GROUP = 64
"""Inputs that share a scale, where nobody says."""
SCALE_TYPES = (torch.float32, torch.float16)

Activations = Literal["real", "int8"]
"""How x is multiplied: as it comes, or rounded to int8 by rows."""


class LinearGroups(FrozenLinear):
    """x W^T + bias with W frozen in integers, W[o, i] = scale[o, g] * (code[o, i] - zero[o, g]), group after group.

    x: [..., in_features] float32, bfloat16, float16 -> [..., out_features] of x's dtype; formula: `ops.linear_groups`.
    bits: 2, 3, 4 or 8. group: inputs in a row that share a scale, 32, 64 or 128; None: all of them. in_features may
    be any number. zero_point: a group has a zero point too, for weights that are not symmetric about 0. scale_dtype:
    float32 or float16. Rounding to the nearest code: `group_codes`; codes of GPTQ, AWQ and their like: `from_codes`.
    activations: "real" multiplies x as it comes; "int8" rounds each row of x to absmax / 127 first and multiplies
    integers, which is faster for many inputs, and on the CPU the same bit for bit everywhere.
    order: a buffer that `from_codes` may set, inputs in the order of their groups; x is put into it first.
    Storage per weight: bits + 32 / group, 16 / group with float16 scales, and 8 / group with zero points; rows are
    filled up to 16, columns to 32.
    W has no gradient; x and bias have, as if x were not quantized. Derivatives of any order, forward mode and
    torch.func work. `.half()` and its like cast the bias alone.
    Errors: ValueError for bits, a group or sizes that there are not, a weight that is not finite or too large for its
    scales; TypeError for another dtype.
    References: GPTQ (arXiv:2210.17323), AWQ (arXiv:2306.00978).
    """

    codes: Tensor
    scale: Tensor
    zero: Tensor | None
    order: Tensor | None
    bias: nn.Parameter | None

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        bits: int = 4,
        group: int | None = GROUP,
        zero_point: bool = False,
        scale_dtype: torch.dtype = torch.float32,
        activations: Activations = "real",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        _check_options(in_features, bits, group, activations)
        self._round(nn.Linear(in_features, out_features, bias, device, dtype), bits, group, zero_point, scale_dtype)
        self.activations = activations

    @classmethod
    def from_float(
        cls,
        linear: nn.Linear,
        *,
        bits: int = 4,
        group: int | None = GROUP,
        zero_point: bool = False,
        scale_dtype: torch.dtype = torch.float32,
        activations: Activations = "real",
    ) -> Self:
        """The layer that holds the nearest codes of `linear`'s weight; it shares the bias."""
        weight_of("LinearGroups", linear)
        _check_options(linear.in_features, bits, group, activations)
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        layer._round(linear, bits, group, zero_point, scale_dtype)
        layer.activations = activations
        return layer.train(linear.training)

    @classmethod
    def from_codes(
        cls,
        codes: Tensor,
        scale: Tensor,
        zero: Tensor | None = None,
        *,
        bits: int = 4,
        group: int | None = GROUP,
        bias: Tensor | None = None,
        order: Tensor | None = None,
        activations: Activations = "real",
    ) -> Self:
        """The layer of codes that others have chosen (GPTQ, AWQ, HQQ, ...), exactly: W = scale * (codes - zero).

        codes: integers [out_features, in_features], 0 ... 2^bits - 1; where zero is None, -2^(bits - 1) ...
        2^(bits - 1) - 1, and W = scale * codes. scale: float32, float16 or bfloat16 [out_features, groups]. zero: the
        same shape, any numbers; whole ones from 0 to 255 are stored in 8 bits. bias: [out_features], or None.
        order: integers [in_features], each input once, for groups that are no neighbours (GPTQ's act-order): the first
        `group` of them share the first scale, and so on; column i of codes belongs to input i all the same.
        Errors: TypeError for another dtype; ValueError for codes outside of their range, shapes that do not fit, or
        scales and zero points that are not finite.
        """
        if codes.ndim != 2 or codes.is_floating_point() or codes.dtype == torch.bool:
            raise TypeError(
                f"LinearGroups: codes must be integers [out_features, in_features]; got {codes.dtype} "
                f"{list(codes.shape)}; one number each, not packed"
            )
        rows, columns = codes.shape
        _check_options(columns, bits, group, activations)
        low = 0 if zero is not None else -(2 ** (bits - 1))
        code = Integers(low, low + 2**bits - 1)
        if codes.numel() and not code.contains(codes):
            raise ValueError(
                f"LinearGroups: codes of {bits} bits must lie in {code.low} ... {code.high} "
                f"{'without' if zero is None else 'with'} zero points; got {int(codes.min())} ... {int(codes.max())}"
            )
        shape = (rows, groups_of(columns, group or 0))
        scale = _finite("scale", scale, shape)
        stored = scale.float() if scale.dtype == torch.bfloat16 else scale
        if stored.dtype not in SCALE_TYPES:
            raise TypeError(f"LinearGroups: scale must be float32, float16 or bfloat16; got {scale.dtype}; cast it")
        point = None if zero is None else _as_zero_point(_finite("zero", zero, shape))
        layer = cls.__new__(cls)
        nn.Module.__init__(layer)
        sorted_by = None if order is None else _order(order, columns).to(codes.device)
        codes = codes if sorted_by is None else codes.index_select(1, sorted_by)
        layer._hold(columns, rows, bits, group, GroupCodes((codes - low).to(torch.uint8), stored, point))
        layer.order = sorted_by
        layer.bias = None if bias is None else nn.Parameter(_bias(bias, rows))
        layer.activations = activations
        return layer

    def _round(
        self, linear: nn.Linear, bits: int, group: int | None, zero_point: bool, scale_dtype: torch.dtype
    ) -> None:
        weight = weight_of("LinearGroups", linear).float()
        if scale_dtype not in SCALE_TYPES:
            raise TypeError(f"LinearGroups: scale_dtype must be torch.float32 or torch.float16; got {scale_dtype}")
        if not_finite(weight):
            raise ValueError("LinearGroups: linear.weight must be finite as float32; got larger numbers; scale it down")
        try:
            found = round_to_groups(
                weight, bits, group or linear.in_features, zero_point=zero_point, scale_dtype=scale_dtype
            )
        except ValueError as error:
            raise ValueError(f"LinearGroups: {error}") from error
        self._hold(linear.in_features, linear.out_features, bits, group, found)
        self.bias = linear.bias

    def _hold(self, columns: int, rows: int, bits: int, group: int | None, found: GroupCodes) -> None:
        self.in_features, self.out_features, self.bits, self.group = columns, rows, bits, group
        self.register_buffer("codes", pack_codes(found.codes, bits))
        self.register_buffer("scale", pack_rows(found.scale))
        self.register_buffer("zero", None if found.zero is None else pack_rows(found.zero))
        self.register_buffer("order", None)

    def weight_code(self) -> Code:
        """The numbers of `integers()`; where a group has no zero point they stand for themselves times its scale.

        With an `order`, neighbours are those in it.
        """
        low = 0 if self.zero is not None else -(2 ** (self.bits - 1))
        shape = PerOutputChannel() if self.group is None else PerInputGroup(self.group)
        return Integers(low, low + 2**self.bits - 1, scale=shape)

    def integers(self) -> Tensor:
        """[out_features, in_features]: int8 numbers about 0, or uint8 codes where there are zero points."""
        codes = self._as_inputs(unpack_codes(self.codes, self.out_features, self.in_features))
        return codes if self.zero is not None else (codes.short() - 2 ** (self.bits - 1)).to(torch.int8)

    def scales(self) -> Tensor:
        """[out_features, groups], as stored."""
        return unpack_rows(self.scale, self.out_features)

    def zeros(self) -> Tensor | None:
        """[out_features, groups], as stored; None where no group has a zero point."""
        return None if self.zero is None else unpack_rows(self.zero, self.out_features)

    def dequantize(self, dtype: torch.dtype = torch.float32) -> Tensor:
        """W [out_features, in_features]: scale * (code - zero), rounded to `dtype`."""
        sizes = (self.out_features, self.in_features)
        return self._as_inputs(dequantize_groups(self.codes, self.scale, self.zero, self.group or 0, *sizes, dtype))

    def _as_inputs(self, columns: Tensor) -> Tensor:
        """Columns as they are stored -> column i for input i."""
        return columns if self.order is None else columns.index_select(1, self.order.argsort())

    def forward(self, x: Tensor) -> Tensor:
        self.check_input(x)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        int8 = self.activations == "int8"
        x = x if self.order is None else x.index_select(-1, self.order)
        return linear_groups.direct(
            x, self.codes, self.scale, self.zero, self.group or 0, self.out_features, bias, int8
        )

    def settings(self) -> dict[str, Any]:
        """What a file says of the layer beside its sizes."""
        zero = None if self.zero is None else str(self.zero.dtype).removeprefix("torch.")
        scale = str(self.scale.dtype).removeprefix("torch.")
        return {
            "bits": self.bits,
            "group": self.group or 0,
            "scale": scale,
            "zero": zero or "",
            "activations": self.activations,
            "ordered": self.order is not None,
        }

    @classmethod
    def of_settings(cls, linear: nn.Linear, settings: dict[str, Any]) -> Self:
        """A layer in which everything but its numbers is as `settings` say. Errors: ValueError."""
        scales, zeros = {"float32": torch.float32, "float16": torch.float16}, {"": None, "uint8": 0, "float32": 1}
        if settings["scale"] not in scales or settings["zero"] not in zeros:
            raise ValueError(f"scale and zero must be types of LinearGroups; got {settings!r}; save it anew")
        layer = cls.from_float(
            linear,
            bits=settings["bits"],
            group=settings["group"] or None,
            zero_point=settings["zero"] != "",
            scale_dtype=scales[settings["scale"]],
            activations=settings["activations"],
        )
        if settings["zero"] == "float32":
            assert layer.zero is not None
            layer.zero = layer.zero.float()
        if settings["ordered"]:
            layer.order = torch.arange(layer.in_features, dtype=torch.int32, device=layer.codes.device)
        return layer

    def check_codes(self) -> None:
        """As for every frozen layer; an order must have each input once."""
        super().check_codes()
        if self.order is not None:
            _order(self.order, self.in_features)

    def extra_repr(self) -> str:
        return (
            f"{self.in_features}, {self.out_features}, bias={self.bias is not None}, bits={self.bits}, "
            f"group={self.group}, zero_point={self.zero is not None}, activations={self.activations!r}"
            f"{', ordered' * (self.order is not None)}"
        )


def _check_options(columns: int, bits: int, group: int | None, activations: str) -> None:
    if bits not in PLANES:
        raise ValueError(f"LinearGroups: bits must be 2, 3, 4 or 8; got {bits}")
    if group is not None and group not in GROUPS:
        raise ValueError(f"LinearGroups: group must be 32, 64, 128, or None for whole rows; got {group}")
    if columns < 1:
        raise ValueError(f"LinearGroups: in_features must be at least 1; got {columns}; leave such a layer as it is")
    if activations not in ("real", "int8"):
        raise ValueError(f'LinearGroups: activations must be "real" or "int8"; got {activations!r}')
    if activations == "int8" and group is None and columns > most_columns(bits):
        raise ValueError(
            f"LinearGroups: int32 sums hold at most {most_columns(bits)} in_features of {bits} bits in a group; got "
            f"{columns}; take group=128"
        )


def _finite(name: str, values: Tensor, shape: tuple[int, int]) -> Tensor:
    if tuple(values.shape) != shape:
        raise ValueError(f"LinearGroups: {name} must be {list(shape)}, one per group; got {list(values.shape)}")
    if values.is_floating_point() and not_finite(values):
        raise ValueError(f"LinearGroups: {name} must be finite; got {not_finite(values)}")
    return values.detach()


def _as_zero_point(zero: Tensor) -> Tensor:
    """uint8 where that holds all of them, else float32. Raises: TypeError where float32 would round."""
    small = zero.clamp(0, 255).to(torch.uint8)
    if bool((small == zero).all()):
        return small
    wide = zero.float()
    if not bool((wide.double() == zero.double()).all()):
        raise TypeError(f"LinearGroups: zero must be numbers of float32; got others in {zero.dtype}; round them first")
    return wide


def _order(order: Tensor, columns: int) -> Tensor:
    """int32. Raises: ValueError unless it has each input once."""
    if tuple(order.shape) != (columns,) or order.is_floating_point() or order.dtype == torch.bool:
        raise ValueError(f"LinearGroups: order must be integers [{columns}]; got {order.dtype} {list(order.shape)}")
    expected = torch.arange(columns, dtype=order.dtype, device=order.device)
    if not torch.equal(order.sort().values, expected):
        raise ValueError(
            f"LinearGroups: order must have each of {columns} inputs once; got {int(order.min())} ... "
            f"{int(order.max())}, {len(set(order.tolist()))} of them different"
        )
    return order.detach().to(torch.int32, copy=True)


def _bias(bias: Tensor, rows: int) -> Tensor:
    if tuple(bias.shape) != (rows,) or not bias.is_floating_point():
        raise ValueError(f"LinearGroups: bias must be numbers [{rows}]; got {bias.dtype} {list(bias.shape)}")
    return bias.detach().clone()
