"""In which order torch adds here: found by asking it.

A float sum depends on the order of its additions, and torch's differs with shape, CPU and number of threads. Native
layers take an order as an argument, so all that is needed is to find torch's. For a convolution it is measured: with
all products 1 but one 2^60 and one -2^60, what was added between the two is lost, and the result counts the rest. For
means a few orders are known. Whatever is found counts only where random numbers give torch's own bits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from bittern import ops
from bittern.deploy.kinds import Step, integers
from bittern.deploy.program import Node
from bittern.deploy.real_kinds import CONV

CPU = torch.device("cpu")

HUGE = 2.0**60
"""Swallows every sum of ones."""

LEAST_COMPARED = 512
"""Numbers that must agree before two ways to add count as one."""

MEAN_LANES = (8, 16, 4)
"""Numbers of a vector with which torch sums rows, the likely one first."""

Run = Callable[[Tensor], Tensor]
"""The convolution of an image of ones, by its weights."""


class Trial(NamedTuple):
    """What is needed to find out whether native code gives torch's bits for a real node."""

    tensors: Mapping[str, Tensor]
    """By role."""
    steps: tuple[Step, Step | None]
    """The node by torch: as in the training graph, and on images with channels last."""


@torch.no_grad()
def exact_order(node: Node, trial: Trial, shape: Sequence[int]) -> ops.SumOrder | None:
    """The order of summation in which a convolution of images of this shape has torch's bits, or None.

    At most one result of torch and one of ours are held at a time.
    """
    weight = trial.tensors["weight"]
    stride, padding, dilation = (integers(node, key) for key in ("stride", "padding", "dilation"))

    def run(other: Tensor) -> Tensor:
        result: Tensor = CONV.build(node, {"weight": other}, CPU)(torch.ones(*shape))
        return result

    def ours(conv: ops.PreparedRealConv, x: Tensor, like: Tensor) -> Tensor:
        found = torch.empty(like.permute(0, 2, 3, 1).shape)
        ops.run_steps(ops.chosen_isa(), conv.step(x.permute(0, 2, 3, 1), found))
        return found.permute(0, 3, 1, 2)

    for order in list(conv_orders(run, weight.shape)):
        conv = ops.PreparedRealConv(weight, stride, padding, dilation, order)
        if same_bits(trial.steps[0], partial(ours, conv), shape):
            return order
    return None


@torch.no_grad()
def exact_lanes(trial: Trial, shape: Sequence[int]) -> int | None:
    """How many lanes torch's mean over all positions of images of this shape has, or None where none are found."""

    def ours(lanes: int, x: Tensor, like: Tensor) -> Tensor:
        pixels = x.flatten(2).transpose(1, 2).unsqueeze(1).contiguous()
        found = torch.empty(shape[0], 1, 1, shape[1])
        record = ops.mean_step(pixels.shape, found, lanes)
        record["pool"]["x"] = pixels.data_ptr()
        ops.run_steps(ops.chosen_isa(), record)
        return found.view(like.shape)

    return next((n for n in MEAN_LANES if same_bits(trial.steps[0], partial(ours, n), shape)), None)


@torch.no_grad()
def same_bits(torchs: Step, ours: Callable[[Tensor, Tensor], Tensor], shape: Sequence[int]) -> bool:
    """Whether a step of torch and ours, which also gets torch's result, agree on images of this shape.

    Two orders of a sum often give the same number, so small results are compared many times.
    """
    generator = torch.Generator().manual_seed(0)
    compared = 0
    while compared < LEAST_COMPARED:
        x = torch.randn(*shape, generator=generator)
        expected = torchs(x)
        if not torch.equal(expected, ours(x, expected)):
            return False
        compared += expected.numel()
    return True


def conv_orders(run: Run, weight: Sequence[int]) -> Iterator[ops.SumOrder]:
    """Orders in which a convolution with weights of this shape, [out, channels, *kernel], may add its products."""
    for chain in dict.fromkeys((_first_chain(run, weight), torch.Size(weight[1:]).numel())):
        for channels_first in (False, True):
            yield ops.SumOrder(channels_first, chain)


def _first_chain(run: Run, weight: Sequence[int]) -> int:
    """Products that are added one by one before a new sum starts, at the pixel in the middle.

    With HUGE at the first product and -HUGE at another, the count of lost ones is the size of the smallest partial sum
    that holds both: 2, 3, 4, ... for the others of the first chain.
    """
    out, products = weight[0], torch.Size(weight[1:]).numel()
    sizes: list[int] = []
    for start in range(1, products, out):
        others = range(start, min(start + out, products))
        w = torch.ones(out, products)
        w[:, 0] = HUGE
        w[range(len(others)), others] = -HUGE
        left = _middle(run(w.view(*weight)))
        sizes += [products - n for n in left[: len(others)]]
    chain = 1
    for size in sorted(sizes):
        if size != chain + 1:
            break
        chain = size
    return chain


def _middle(images: Tensor) -> list[int]:
    """The channels of the pixel in the middle of the first image, as whole numbers, without the image."""
    return [int(n) for n in images[0, :, images.shape[2] // 2, images.shape[3] // 2].tolist()]
