# SPDX-License-Identifier: Apache-2.0
"""Low-bit convolutions: torch's convolutions with a method between the operands and the product."""

from __future__ import annotations

from torch import Tensor

from bittern.nn.binarize import Geometry, LowBitLayer, check_input, low_bit_forward
from bittern.quantizer import LayerShape, Method


class _BinaryConv(LowBitLayer):
    """What 1-d and 2-d convolution share; `dims` is the number of space dimensions.

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
        padding: int | tuple[int, ...],
        dilation: int | tuple[int, ...],
        groups: int,
        bias: bool,
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
        geometry = Geometry(
            _per_dim(name, "stride", stride, dims, 1),
            _per_dim(name, "padding", padding, dims, 0),
            _per_dim(name, "dilation", dilation, dims, 1),
            groups,
            pad_value,
        )
        shape = LayerShape((out_channels, in_channels // groups, *kernel), groups)
        super().__init__(shape, geometry, bias=bias, method=method)

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
    def padding(self) -> tuple[int, ...]:
        return self.geometry.padding

    @property
    def dilation(self) -> tuple[int, ...]:
        return self.geometry.dilation

    @property
    def groups(self) -> int:
        return self.geometry.groups

    @property
    def padding_mode(self) -> str:
        """torch's word for constant padding; `geometry.pad_value` is the constant."""
        return "zeros" if self.geometry.pad_value == 0 else "constant"

    @property
    def transposed(self) -> bool:
        return False

    @property
    def output_padding(self) -> tuple[int, ...]:
        return (0,) * len(self.kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        check_input(type(self).__name__, x, self.method.shape)
        return low_bit_forward(x, self.weight, self.bias, self.method, self.geometry)

    def extra_repr(self) -> str:
        return (
            f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}, "
            f"padding={self.padding}, dilation={self.dilation}, groups={self.groups}, "
            f"pad_value={self.geometry.pad_value}"
        )


class BinaryConv1d(_BinaryConv):
    """Low-bit 1-d convolution of x [batch, in_channels, length], as `torch.nn.Conv1d` with a `method`.

    `pad_value` is the value of padding on the grid: 0 (as the papers train), -1 or +1.

    Raises: ValueError for sizes that do not fit; TypeError for an input that is not floating point.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int],
        stride: int | tuple[int] = 1,
        padding: int | tuple[int] = 0,
        dilation: int | tuple[int] = 1,
        groups: int = 1,
        bias: bool = False,
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
            method,
            pad_value,
        )


class BinaryConv2d(_BinaryConv):
    """Low-bit 2-d convolution of x [batch, in_channels, height, width], as `torch.nn.Conv2d` with a `method`.

    `pad_value` is the value of padding on the grid: 0 (as the papers train), -1 or +1.

    Raises: ValueError for sizes that do not fit; TypeError for an input that is not floating point.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        stride: int | tuple[int, int] = 1,
        padding: int | tuple[int, int] = 0,
        dilation: int | tuple[int, int] = 1,
        groups: int = 1,
        bias: bool = False,
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
            method,
            pad_value,
        )


def _per_dim(owner: str, name: str, value: int | tuple[int, ...], dims: int, least: int) -> tuple[int, ...]:
    sizes = (value,) * dims if isinstance(value, int) else tuple(value)
    if len(sizes) != dims or any(not isinstance(s, int) or s < least for s in sizes):
        raise ValueError(f"{owner}: {name} must be {dims} integer(s) of at least {least}; got {value!r}")
    return sizes
