# SPDX-License-Identifier: Apache-2.0
"""Low-bit convolutions: torch's convolutions with a method between the operands and the product."""

from __future__ import annotations

from typing import Any, Self

from torch import Tensor, nn

from bittern._autocast import in_own_precision
from bittern.nn._layer_checks import check_input
from bittern.nn._padding import work_out
from bittern.nn.binarize import LowBitLayer, low_bit_forward
from bittern.nn.geometry import Geometry
from bittern.quantizer import LayerShape, Method, weight_terms


class _BinaryConv(LowBitLayer):
    """What 1-d and 2-d convolution share; `dims` is the number of space dimensions.

    padding: integers, "same" or "valid"; padding_mode: as torch's layers. "zeros" pads by `pad_value` on the grid: 0
    (as the papers train), -1 or +1. "reflect", "replicate" and "circular" copy real values in front of the sign, so
    that a threshold or a scale of the input sees them like any other.

    Everything that torch's convolutions tell of themselves is told here under the same name, read from `geometry` and
    the method's shape, so that a model which reads its layers (`conv.kernel_size[0] - conv.stride[0]`) runs converted.
    """

    def __init__(
        self,
        dims: int,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, ...],
        stride: int | tuple[int, ...],
        padding: str | int | tuple[int, ...],
        dilation: int | tuple[int, ...],
        groups: int,
        bias: bool,
        padding_mode: str,
        method: Method,
        pad_value: int,
    ) -> None:
        name = type(self).__name__
        if groups < 1 or in_channels % groups or out_channels % groups:
            raise ValueError(
                f"{name}: groups must divide in_channels and out_channels; "
                f"got groups={groups}, in_channels={in_channels}, out_channels={out_channels}"
            )
        kernel = _per_dim(name, "kernel_size", kernel_size, dims, 1)
        strides = _per_dim(name, "stride", stride, dims, 1)
        dilations = _per_dim(name, "dilation", dilation, dims, 1)
        told = padding if isinstance(padding, str) else _per_dim(name, "padding", padding, dims, 0)
        pads = work_out(name, told, padding_mode, kernel, strides, dilations)
        if pad_value != 0 and padding_mode != "zeros":
            raise ValueError(
                f"{name}: pad_value={pad_value} has no effect with padding_mode={padding_mode!r}; drop one"
            )
        shape = LayerShape((out_channels, in_channels // groups, *kernel), groups)
        geometry = Geometry(strides, pads.grid, dilations, groups, pad_value)
        super().__init__(shape, geometry, bias=bias, method=method)
        self._pads = pads

    @classmethod
    def from_float(cls, conv: nn.Module, *, method: Method, pad_value: int = 0) -> Self:
        """The layer that takes the place of a convolution of torch; it shares the weight and the bias.

        Raises: TypeError for any other layer; ValueError as the constructor.
        """
        if not isinstance(conv, (nn.Conv1d, nn.Conv2d)) or f"Binary{_kind(conv)}" != cls.__name__:
            raise TypeError(f"{cls.__name__}: it takes the place of torch's own convolution; got {type(conv).__name__}")
        options: dict[str, Any] = {name: getattr(conv, name) for name in _TOLD}
        layer = cls(**options, bias=conv.bias is not None, method=method, pad_value=pad_value)
        return layer.taking_over(conv)

    @property
    def in_channels(self) -> int:
        return self.method.shape.in_channels

    @property
    def out_channels(self) -> int:
        return self.method.shape.out_channels

    @property
    def kernel_size(self) -> tuple[int, ...]:
        return self.method.shape.weight[2:]

    @property
    def stride(self) -> tuple[int, ...]:
        return self.geometry.stride

    @property
    def padding(self) -> str | tuple[int, ...]:
        """As it was given; `geometry.padding` is what happens on the grid."""
        return self._pads.told

    @property
    def dilation(self) -> tuple[int, ...]:
        return self.geometry.dilation

    @property
    def groups(self) -> int:
        return self.geometry.groups

    @property
    def padding_mode(self) -> str:
        """torch's word; "constant" where the constant, `geometry.pad_value`, is not 0."""
        return self._pads.mode if self.geometry.pad_value == 0 else "constant"

    @property
    def transposed(self) -> bool:
        return False

    @property
    def output_padding(self) -> tuple[int, ...]:
        return (0,) * len(self.kernel_size)

    @in_own_precision
    def forward(self, x: Tensor) -> Tensor:
        check_input(type(self).__name__, x, self.method.shape)
        return self.gated(self._pads.cropped(self.product(self.operand(x))), x)

    def operand(self, x: Tensor) -> Tensor:
        return self._pads.copied(x)

    def product(self, x: Tensor) -> Tensor:
        terms = weight_terms(self.method, self.weight)
        return low_bit_forward(x, terms, self.product_bias, self.method, self.geometry, self.accumulate)

    def extra_repr(self) -> str:
        mode = "" if self._pads.mode == "zeros" else f"padding_mode={self._pads.mode!r}, "
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding!r}, dilation={self.dilation}, groups={self.groups}, {mode}"
            f"pad_value={self.geometry.pad_value}"
        )


class BinaryConv1d(_BinaryConv):
    """Low-bit 1-d convolution of x [batch, in_channels, length], as `torch.nn.Conv1d` with a `method`.

    padding, padding_mode: as torch's. `pad_value`: what padding by a constant holds on the grid, 0 (as the papers
    train), -1 or +1.

    Raises: ValueError for sizes that do not fit; TypeError for an input that is not floating point.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] = 1,
        padding: str | int | tuple[int] = 0,
        dilation: int | tuple[int] = 1,
        groups: int = 1,
        bias: bool = False,
        padding_mode: str = "zeros",
        *,
        method: Method,
        pad_value: int = 0,
    ) -> None:
        super().__init__(
            1,
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            method,
            pad_value,
        )


class BinaryConv2d(_BinaryConv):
    """Low-bit 2-d convolution of x [batch, in_channels, height, width], as `torch.nn.Conv2d` with a `method`.

    padding, padding_mode: as torch's. `pad_value`: what padding by a constant holds on the grid, 0 (as the papers
    train), -1 or +1.

    Raises: ValueError for sizes that do not fit; TypeError for an input that is not floating point.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: str | int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = False,
        padding_mode: str = "zeros",
        *,
        method: Method,
        pad_value: int = 0,
    ) -> None:
        super().__init__(
            2,
            in_channels,
            out_channels,
            kernel_size,
            stride,
            padding,
            dilation,
            groups,
            bias,
            padding_mode,
            method,
            pad_value,
        )


_TOLD = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups", "padding_mode")
"""Arguments of torch's convolutions, which are their attributes as well."""


def pads_on_grid(conv: nn.Conv1d | nn.Conv2d) -> bool:
    """Whether a convolution of torch pads by a constant, which has a value on the grid."""
    sizes = (conv.kernel_size, conv.stride, conv.dilation)
    return any(work_out(type(conv).__name__, conv.padding, conv.padding_mode, *sizes).grid)


def _kind(conv: nn.Conv1d | nn.Conv2d) -> str:
    return "Conv1d" if isinstance(conv, nn.Conv1d) else "Conv2d"


def _per_dim(owner: str, name: str, value: int | tuple[int, ...], dims: int, least: int) -> tuple[int, ...]:
    sizes = (value,) * dims if isinstance(value, int) else tuple(value)
    if len(sizes) != dims or any(not isinstance(s, int) or s < least for s in sizes):
        raise ValueError(f"{owner}: {name} must be {dims} integer(s) of at least {least}; got {value!r}")
    return sizes
