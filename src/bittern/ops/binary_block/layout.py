# SPDX-License-Identifier: Apache-2.0
"""The records that native code reads: `ProgramStep` of program.h, field by field, all 64 bits wide."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from torch import Tensor

from bittern import _native

TAIL_UNIT = 16
"""Channels that are finished together (kTailUnit)."""

REAL_UNIT = 16
"""Output channels of a real convolution whose weights lie side by side (kRealUnit)."""


class StepKind(IntEnum):
    """What a step does, by the number that native code knows."""

    CONVOLVE = 0
    ENCODE = 1
    POOL = 2
    REAL = 3
    POOL_BITS = 4
    CONCATENATE_BITS = 5
    REAL_POOL = 6


class Activation(IntEnum):
    """What follows a product, by the number that native code knows; the rows of parameters that each reads."""

    NONE = 0
    RELU = 1
    HARDTANH = 2
    PRELU = 3
    RPRELU = 4

    @property
    def parameters(self) -> tuple[str, ...]:
        return _PARAMETERS[self]


_PARAMETERS: dict[Activation, tuple[str, ...]] = {
    Activation.NONE: (),
    Activation.RELU: (),
    Activation.HARDTANH: ("least", "most"),
    Activation.PRELU: ("slope",),
    Activation.RPRELU: ("before", "slope", "after"),
}

ROWS = (
    "offset",
    "scale",
    "alpha",
    "beta",
    "first",
    "second",
    "third",
    "threshold",
    "residual_alpha",
    "residual_beta",
)
"""Rows of a tail's parameters (TailRow)."""

_CONV = (
    "batch",
    "height",
    "width",
    "channels",
    "out_channels",
    "kernel_h",
    "kernel_w",
    "stride_h",
    "stride_w",
    "pad_h",
    "pad_w",
    "dilation_h",
    "dilation_w",
    "groups",
    "pad_value",
    "input",
    "weights",
    "epilogue",
    "output",
    "input_row",
    "input_image",
    "input_border",
    "tail",
)
_TAIL = (
    "activation",
    "residual_last",
    "rows",
    "pitch",
    "residual",
    "residual_height",
    "residual_width",
    "residual_channels",
    "residual_pool",
    "residual_shift",
    "residual_repeats",
    "residual_affine",
    "factor",
    "factor_row",
    "factor_pitch",
    "real",
    "bits",
    "bits_row",
    "bits_image",
)
_PLANES = ("input", "weight", "input_words", "weight_bytes", "last_factor")
_ENCODE = (
    "batch",
    "height",
    "width",
    "channels",
    "planes",
    "plane_words",
    "x",
    "x_image",
    "x_row",
    "x_pixel",
    "x_channel",
    "threshold",
    "bits",
    "bits_row",
    "bits_image",
)

_POOL = (
    "batch",
    "height",
    "width",
    "channels",
    "out_height",
    "out_width",
    "kernel_h",
    "kernel_w",
    "stride_h",
    "stride_w",
    "pad_h",
    "pad_w",
    "average",
    "count_padding",
    "lanes",
    "x",
    "affine",
    "out",
)

_REAL = (
    "batch",
    "height",
    "width",
    "channels",
    "out_height",
    "out_width",
    "out_channels",
    "kernel_h",
    "kernel_w",
    "stride_h",
    "stride_w",
    "pad_h",
    "pad_w",
    "dilation_h",
    "dilation_w",
    "channels_first",
    "chain",
    "x",
    "x_image",
    "x_row",
    "x_pixel",
    "x_channel",
    "weights",
    "out",
    "affine",
    "limits",
)

_POOL_BITS = (
    "batch",
    "height",
    "width",
    "words",
    "out_height",
    "out_width",
    "kernel_h",
    "kernel_w",
    "stride_h",
    "stride_w",
    "pad_h",
    "pad_w",
    "x",
    "x_row",
    "x_image",
    "flip",
    "out",
    "out_row",
    "out_image",
)

_CONCATENATE_BITS = (
    "batch",
    "height",
    "width",
    "channels",
    "offset",
    "x",
    "x_row",
    "x_image",
    "out_words",
    "out",
    "out_row",
    "out_image",
)


_SIZES = ("input_before", "input", "weights", "rows", "residual", "factor", "real", "bits", "mask")


def _words(names: tuple[str, ...]) -> list[tuple[str, str]]:
    return [(name, "<i8") for name in names]


STEP = np.dtype(
    [
        ("kind", "<i8"),
        ("conv", _words(_CONV)),
        ("tail", _words(_TAIL)),
        ("planes", _words(_PLANES)),
        ("encode", _words(_ENCODE)),
        ("pool", _words(_POOL)),
        ("real", _words(_REAL)),
        ("pool_bits", _words(_POOL_BITS)),
        ("concatenate_bits", _words(_CONCATENATE_BITS)),
        ("sizes", _words(_SIZES)),
    ]
)
"""One step of a program. `sizes` are bytes behind its addresses, against which native code checks what it touches."""


def bytes_of(x: Tensor | None) -> int:
    """Bytes of a contiguous tensor; 0 for none."""
    return 0 if x is None else x.numel() * x.element_size()


def extent_of(x: Tensor) -> int:
    """Bytes from the first to behind the last element of a tensor in any layout."""
    if x.numel() == 0:
        return 0
    return (1 + sum((n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True))) * x.element_size()


def point(record: np.ndarray, part: str, x: Tensor) -> None:
    """Let a part of a record, `real` or `encode`, read other images [batch, height, width, channels], as they lie."""
    fields = record[part]
    fields["x"] = x.data_ptr()
    fields["x_image"], fields["x_row"], fields["x_pixel"], fields["x_channel"] = x.stride()
    record["sizes"]["input"] = extent_of(x)


def readable(x: Tensor) -> Tensor:
    """Images that an encode step reads: these where channels, or pixels of a row, lie side by side; else a copy."""
    _, _, pixel, channel = x.stride()
    whole_pixels = channel == 1 and pixel == x.shape[3]
    return x if whole_pixels or pixel == 1 else x.contiguous()


if STEP.itemsize != 8 * _native.STEP_WORDS:
    raise ImportError(
        f"bittern.ops.binary_block: a step has {STEP.itemsize // 8} words here and {_native.STEP_WORDS} in the "
        "native extension; build it again"
    )
