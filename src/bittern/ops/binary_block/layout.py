# SPDX-License-Identifier: Apache-2.0
"""The records that native code reads: `ProgramStep` of program.h, laid out as the extension says (`fields.h`)."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import torch
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
    LINEAR = 7
    INPUT_SCALE = 8
    MAP = 9
    INTEGER_CONV = 10
    INTEGER_ADD = 11
    INTEGER_POOL = 12
    INTEGER_TABLE = 13
    INTEGER_SOFTMAX = 14
    INTEGER_MEAN = 15
    INTEGER_QUANTIZE = 16
    INTEGER_DEQUANTIZE = 17


MAP_UNIT = 16
"""Channels to which the rows of `map_images` are filled up (kMapUnit)."""


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


def record_of(fields: list[tuple[str, int, int]], formats: dict[str, np.dtype]) -> np.dtype:
    """A record of native code; a field without a format is a word of 64 bits."""
    layout = {
        "names": [name for name, _, _ in fields],
        "formats": [formats.get(name, np.dtype("<i8")) for name, _, _ in fields],
        "offsets": [offset for _, offset, _ in fields],
        "itemsize": sum(size for _, _, size in fields),
    }
    return np.dtype(layout)  # type: ignore[call-overload, no-any-return]


def _step() -> np.dtype:
    fields = _native.step_fields()
    step = fields.pop("step")
    return record_of(step, {name: record_of(inner, {}) for name, inner in fields.items()})


STEP = _step()
"""One step of a program. `sizes` are bytes behind its addresses, against which native code checks what it touches."""


def one_array(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Records of several arrays in one. Joined as bytes: numpy compares two record types field by field, in Python."""
    joined = bytearray(b"".join(part.tobytes() for part in parts))
    return np.frombuffer(joined, STEP) if joined else np.zeros(0, STEP)


def part_of(record: np.ndarray) -> str:
    """The part of a record that says what it does, of the kinds of steps on int8."""
    return StepKind(int(record["kind"][0])).name.lower()


def bytes_of(x: Tensor | None) -> int:
    """Bytes of a contiguous tensor; 0 for none."""
    return 0 if x is None else x.numel() * x.element_size()


def extent_of(x: Tensor) -> int:
    """Bytes from the first to behind the last element of a tensor in any layout."""
    if x.numel() == 0:
        return 0
    return (1 + sum((n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True))) * x.element_size()


def point(record: np.ndarray, part: str, x: Tensor) -> None:
    """Let a part of a record that has strides read other images [batch, height, width, channels]."""
    fields = record[part]
    fields["x"] = x.data_ptr()
    fields["x_image"], fields["x_row"], fields["x_pixel"], fields["x_channel"] = x.stride()
    record["sizes"]["input"] = extent_of(x)


def readable(x: Tensor) -> Tensor:
    """Images that an encode step reads: these where channels, or pixels of a row, lie side by side; else a copy."""
    _, _, pixel, channel = x.stride()
    whole_pixels = channel == 1 and pixel == x.shape[3]
    # contiguous() would return images of no samples as they are, with strides that native code refuses
    return x if whole_pixels or pixel == 1 else x.clone(memory_format=torch.contiguous_format)
