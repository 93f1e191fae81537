"""Low-bit convolutions: torch's convolutions with a method between the operands and the product."""

from __future__ import annotations

from torch import Tensor

from bittern.nn.binarize import Geometry, LowBitLayer, check_input, low_bit_forward
from bittern.quantizer import LayerShape, Method


class _BinaryConv(LowBitLayer):
    """What 1-d and 2-d convolution share; `_dims` is the number of space dimensions."""

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

    def forward(self, x: Tensor) -> Tensor:
        check_input(type(self).__name__, x, self.method.shape)
        return low_bit_forward(x, self.weight, self.bias, self.method, self.geometry)

    def extra_repr(self) -> str:
        shape, g = self.method.shape, self.geometry
        return (
            f"{shape.in_channels}, {shape.out_channels}, kernel_size={shape.weight[2:]}, stride={g.stride}, "
            f"padding={g.padding}, dilation={g.dilation}, groups={g.groups}, pad_value={g.pad_value}"
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
