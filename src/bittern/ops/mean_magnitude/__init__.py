# SPDX-License-Identifier: Apache-2.0
"""mean_magnitude(x): the mean |x| over the channels of every pixel, XNOR-Net's A.

x: [samples, channels, *space] with at least one channel, float32, float64, float16 or bfloat16, in any layout
-> [samples, 1, *space] of the same dtype, contiguous.

    s_k = |x_k| + |x_(k+16)| + |x_(k+32)| + ... for k = 0 ... 15, in this order; then s_k + s_(k+8) for k = 0 ... 7,
    s_k + s_(k+4) for k = 0 ... 3, s_k + s_(k+2) for k = 0, 1, and s_0 + s_1; divided by the number of channels

Each addition is rounded, so the result is the same bits on every instruction set, with any number of threads, in any
batch and layout. float16 and bfloat16 are added in float32. `input_scale_step` is a step of a native program, which
carries it to the outputs of a convolution: the sum over each window row by row, zeros outside, divided by its size.
Errors: TypeError for another dtype; ValueError for fewer than two dimensions or no channel.
Not differentiable: no gradient flows through the scale of an input (`bittern.binary.XNORNet`).
"""

from __future__ import annotations

from torch import Tensor

from bittern.ops._check import FLOATS, check_dtype
from bittern.ops._op import Op, lazily
from bittern.ops.mean_magnitude.cpu import Window, input_scale_step, mean_magnitude_cpu
from bittern.ops.mean_magnitude.reference import mean_magnitude_reference

__all__ = ["Window", "input_scale_step", "mean_magnitude", "mean_of_sample"]


def _check(x: Tensor) -> None:
    check_dtype("mean_magnitude", "x", x, FLOATS)
    if x.ndim < 2 or x.shape[1] == 0:
        raise ValueError(
            f"mean_magnitude: x must be [samples, channels, *space] with at least one channel; got {list(x.shape)}"
        )


mean_magnitude: Op[Tensor] = Op(
    "mean_magnitude(Tensor x) -> Tensor",
    check=_check,
    reference=mean_magnitude_reference,
    fake=lambda x: x.new_empty((x.shape[0], 1, *x.shape[2:])),
    cpu=mean_magnitude_cpu,
    cuda=lazily("bittern.ops.mean_magnitude.cuda", "mean_magnitude_cuda"),
)


def mean_of_sample(means: Tensor) -> Tensor:
    """The mean over the pixels of a sample of what `mean_magnitude` gave, [samples, 1, *space] -> [samples, 1, *1].

    Pixels, row behind row, are added as channels are.
    """
    if means.ndim == 2:
        return means
    return mean_magnitude(means.flatten(1)).view(-1, *(1,) * (means.ndim - 1))
