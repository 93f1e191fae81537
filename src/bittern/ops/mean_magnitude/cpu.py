# SPDX-License-Identifier: Apache-2.0
"""`mean_magnitude` and `window_mean` on the CPU, and the step of a native program that does both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bittern import _native
from bittern.ops._isa import Isa, threads
from bittern.ops.binary_block.layout import STEP, StepKind, bytes_of, point
from bittern.ops.mean_magnitude.arguments import WindowMeanArguments
from bittern.ops.mean_magnitude.reference import mean_magnitude_reference, window_mean_reference


class Window(NamedTuple):
    """What an output of a convolution sees: (height, width) each."""

    kernel: Sequence[int]
    stride: Sequence[int]
    padding: Sequence[int]
    dilation: Sequence[int]


def mean_magnitude_cpu(isa: Isa, x: Tensor) -> Tensor:
    if x.dtype != torch.float32:
        return mean_magnitude_reference(x)
    samples, channels, *space = x.shape
    if not _is_one_run(x):
        x = x.contiguous()
    steps = (x.stride(0), x.stride(-1) if space else 0, x.stride(1))
    out = torch.empty((samples, 1, *space), dtype=torch.float32)
    sizes = (samples, out[:1].numel() if samples else 0, channels)
    _native.mean_magnitude(isa, threads(), x.data_ptr(), *sizes, *steps, out.data_ptr())
    return out


def window_mean_cpu(isa: Isa, a: WindowMeanArguments) -> Tensor:
    if a.means.dtype != torch.float32:
        return window_mean_reference(a)
    means = a.means.contiguous()
    out = torch.empty((*means.shape[:2], *a.out_size), dtype=torch.float32)
    _native.window_mean(
        isa,
        threads(),
        means.data_ptr(),
        len(means) * means.shape[1],
        _pair(means.shape[2:], 1),
        _pair(out.shape[2:], 1),
        _pair(a.kernel, 1),
        _pair(a.stride, 1),
        _pair(a.padding, 0),
        _pair(a.dilation, 1),
        out.data_ptr(),
    )
    return out


def _pair(sizes: Sequence[int], of_height: int) -> tuple[int, int]:
    """(height, width); a line is an image with a height of 1."""
    return (of_height, sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])


def _is_one_run(x: Tensor) -> bool:
    """Whether the pixels of a sample lie one step apart, row behind row, and channels or pixels side by side."""
    step = x.stride(-1) if x.ndim > 2 else 0
    rows = all(x.stride(d) == x.shape[d + 1] * x.stride(d + 1) for d in range(2, x.ndim - 1))
    return rows and min(x.stride(1), step or 1) == 1


def input_scale_step(x: Tensor, window: Window | None, means: Tensor, out: Tensor) -> np.ndarray:
    """The record of the scale of images x [batch, height, width, channels] in any layout, at the outputs of a window.

    window: None for the mean over all pixels of a sample. means: working memory, float32 [batch, height, width]; out:
    float32 [batch, out_height, out_width], which may be the same memory where an output sees its own pixel alone.
    """
    record = np.zeros(1, STEP)
    record["kind"] = StepKind.INPUT_SCALE
    s = record["input_scale"]
    s["batch"], s["height"], s["width"], s["channels"] = x.shape
    s["out_height"], s["out_width"] = out.shape[1:]
    s["per_sample"] = window is None
    kernel, stride, padding, dilation = window or Window((1, 1), (1, 1), (0, 0), (1, 1))
    s["kernel_h"], s["kernel_w"] = kernel
    s["stride_h"], s["stride_w"] = stride
    s["pad_h"], s["pad_w"] = padding
    s["dilation_h"], s["dilation_w"] = dilation
    s["means"], record["sizes"]["input_scale"] = means.data_ptr(), bytes_of(means)
    s["out"], record["sizes"]["real"] = out.data_ptr(), bytes_of(out)
    point(record, "input_scale", x)
    return record
