# SPDX-License-Identifier: Apache-2.0
"""XNOR-Net's scale of an input: A, the mean |x| over the channels of every pixel, and K, its mean over windows.

mean_magnitude(x):

x: [samples, channels, *space] with at least one channel, float32, float64, float16 or bfloat16, in any layout
-> [samples, 1, *space] of the same dtype, contiguous.

    s_k = |x_k| + |x_(k+16)| + |x_(k+32)| + ... for k = 0 ... 15, in this order; then s_k + s_(k+8) for k = 0 ... 7,
    s_k + s_(k+4) for k = 0 ... 3, s_k + s_(k+2) for k = 0, 1, and s_0 + s_1; divided by the number of channels

Each addition is rounded, so the result is the same bits on every instruction set, with any number of threads, in any
batch and layout. float16 and bfloat16 are added in float32.

window_mean(means, kernel, stride, padding, dilation):
means: [samples, 1, length] or [samples, 1, height, width]; the others: a number for each dimension of space
-> [samples, 1, *outputs of such a convolution] of the same dtype: the sum over each window row by row from 0, zeros
outside, divided by the window's size. The same bits as above, and on CUDA torch's own where it has such a mean.

`input_scale_step` is a step of a native program that does both.
Errors: TypeError for another dtype; ValueError for fewer than two dimensions or no channel, or for windows that do not
fit the image.
Not differentiable: no gradient flows through the scale of an input (`bittern.binary.XNORNet`).
"""

from __future__ import annotations

from torch import Tensor

from bittern.ops._check import FLOATS, check_dtype
from bittern.ops._op import Op, lazily
from bittern.ops.mean_magnitude.arguments import WindowMeanArguments
from bittern.ops.mean_magnitude.cpu import Window, input_scale_step, mean_magnitude_cpu, window_mean_cpu
from bittern.ops.mean_magnitude.reference import mean_magnitude_reference, window_mean_reference

__all__ = ["Window", "input_scale_step", "mean_magnitude", "mean_of_sample", "window_mean"]


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


def _check_window(a: WindowMeanArguments) -> None:
    check_dtype("window_mean", "means", a.means, FLOATS)
    space = a.means.ndim - 2
    windows = (a.kernel, a.stride, a.padding, a.dilation)
    fits = space in (1, 2) and a.means.shape[1] == 1 and all(len(sizes) == space for sizes in windows)
    least = fits and all(min(sizes) >= least for sizes, least in zip(windows, (1, 1, 0, 1), strict=True))
    if not least or min(a.out_size) < 1:
        raise ValueError(
            "window_mean: means must be [samples, 1, length] or [samples, 1, height, width] with windows that fit; got "
            f"{list(a.means.shape)}, kernel {list(a.kernel)}, stride {list(a.stride)}, padding {list(a.padding)}, "
            f"dilation {list(a.dilation)}"
        )


window_mean: Op[Tensor] = Op(
    "window_mean(Tensor means, int[] kernel, int[] stride, int[] padding, int[] dilation) -> Tensor",
    record=WindowMeanArguments,
    check=_check_window,
    reference=window_mean_reference,
    fake=lambda a: a.means.new_empty((*a.means.shape[:2], *a.out_size)),
    cpu=window_mean_cpu,
    cuda=lazily("bittern.ops.mean_magnitude.cuda", "window_mean_cuda"),
)


def mean_of_sample(means: Tensor) -> Tensor:
    """The mean over the pixels of a sample of what `mean_magnitude` gave, [samples, 1, *space] -> [samples, 1, *1].

    Pixels, row behind row, are added as channels are.
    """
    if means.ndim == 2:
        return means
    return mean_magnitude(means.flatten(1)).view(-1, *(1,) * (means.ndim - 1))
