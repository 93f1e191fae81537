# SPDX-License-Identifier: Apache-2.0
"""In which order torch adds here: found by asking it.

A float sum depends on the order of its additions, and torch's differs with shape, CPU and number of threads. Native
layers take an order as an argument, so all that is needed is to find torch's. For a convolution it is measured: with
all products 1 but one 2^60 and one -2^60, what was added between the two is lost, and the result counts the rest. For
means a few orders are known. Whatever is found counts only where random numbers give torch's own bits: random weights
too, for a layer's own may be zeros and ones but for a few, whose sums are the same in almost any order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from bittern import ops
from bittern.deploy.kinds.kind import Step, integer, integers
from bittern.deploy.kinds.real import CONV
from bittern.deploy.program import Node

CPU = torch.device("cpu")

HUGE = 2.0**60
"""Swallows every sum of ones."""

LEAST_COMPARED = 512
"""Numbers that must agree before two ways to add count as one."""

BAND_NUMBERS = 2**16
"""Results of ours that are held while they are compared."""

MEAN_LANES = (8, 16, 4)
"""Numbers of a vector with which torch sums rows, the likely one first."""

Found = TypeVar("Found")

Run = Callable[[Tensor], Tensor]
"""The convolution of an image of ones, by its weights."""


class Findings(Generic[Found]):
    """What trials of one node found, for good: by batch size and number of torch's threads.

    Each is made once, whichever Python thread asks first. What is kept is small: an order, a choice.
    """

    def __init__(self, find: Callable[[int], Found]) -> None:
        self._find = find
        self._found: dict[tuple[int, int], Found] = {}
        self._lock = threading.Lock()

    def at(self, batch: int) -> Found:
        """What holds at a batch size, with the number of threads that torch has now."""
        key = batch, torch.get_num_threads()  # torch may sum in another order with other threads
        with self._lock:
            if key not in self._found:
                self._found[key] = self._find(batch)
            return self._found[key]


def with_random_weight(tensors: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """The tensors of a node by role, with random numbers in place of its weight, if it has one."""
    if "weight" not in tensors:
        return tensors
    generator = torch.Generator().manual_seed(1)
    return {**tensors, "weight": torch.randn(tensors["weight"].shape, generator=generator, dtype=torch.float32)}


@torch.no_grad()
def exact_order(
    node: Node, tensors: Mapping[str, Tensor], known: Iterable[ops.SumOrder], shape: Sequence[int]
) -> ops.SumOrder | None:
    """The order of summation in which a convolution of images of this shape has torch's bits, or None.

    tensors: of the node, by role. known: orders that it had at other batch sizes, which are tried first. One result of
    torch is held at a time, and a band of ours.
    """
    weight = with_random_weight(tensors)["weight"]
    stride, padding, dilation = (integers(node, key) for key in ("stride", "padding", "dilation"))
    groups = integer(node, "groups")
    torchs = CONV.build(node, {"weight": weight}, CPU)

    def run(batch: int, other: Tensor) -> Tensor:
        ones = torch.ones(batch, *shape[1:], dtype=torch.float32)
        result: Tensor = CONV.build(node, {"weight": other}, CPU)(ones)
        return result

    def agrees(order: ops.SumOrder, few: Tensor, _: Tensor, expected: Tensor) -> bool:
        conv = ops.PreparedRealConv(weight, stride, (0, 0), dilation, order, groups=groups)
        padded = F.pad(few, (padding[1], padding[1], padding[0], padding[0]))
        reach = dilation[0] * (weight.shape[2] - 1) + 1
        row_numbers = few.shape[0] * max(1, expected[0, :, 0].numel())
        for rows in torch.split(expected, max(1, BAND_NUMBERS // row_numbers), 2):
            below, padded = padded, padded[:, :, rows.shape[2] * stride[0] :]
            image = below[:, :, : (rows.shape[2] - 1) * stride[0] + reach].permute(0, 2, 3, 1)
            found = torch.empty(few.shape[0], rows.shape[2], rows.shape[3], rows.shape[1], dtype=torch.float32)
            ops.run_steps(ops.chosen_isa(), conv.step(image, found))
            if not repeats(found.permute(0, 3, 1, 2), rows):
                return False
        return True

    tried: set[ops.SumOrder] = set()
    for order in _likely_orders(known, run, weight.shape, groups, shape[0]):
        if order not in tried and same_bits(torchs, partial(agrees, order), shape):
            return order
        tried.add(order)
    return None


def _likely_orders(
    known: Iterable[ops.SumOrder], run: Callable[[int, Tensor], Tensor], weight: Sequence[int], groups: int, batch: int
) -> Iterator[ops.SumOrder]:
    """Orders that are worth a trial, those that cost least to find out first: measuring takes calls of torch."""
    yield from known
    for images in dict.fromkeys((1, batch)):
        yield from conv_orders(partial(run, images), weight, groups)


@torch.no_grad()
def exact_lanes(torchs: Step, shape: Sequence[int]) -> int | None:
    """How many lanes torch's mean over all positions of images of this shape has, or None where none are found.

    torchs: the mean by torch.
    """

    def agrees(lanes: int, few: Tensor, _: Tensor, expected: Tensor) -> bool:
        pixels = few.flatten(2).transpose(1, 2).unsqueeze(1).contiguous()
        found = torch.empty(few.shape[0], 1, 1, shape[1], dtype=torch.float32)
        record = ops.mean_step(pixels.shape, found, lanes)
        record["pool"]["x"], record["sizes"]["input"] = pixels.data_ptr(), ops.bytes_of(pixels)
        ops.run_steps(ops.chosen_isa(), record)
        return repeats(found.view(-1, *expected.shape[1:]), expected)

    return next((n for n in MEAN_LANES if same_bits(torchs, partial(agrees, n), shape)), None)


Agrees = Callable[[Tensor, Tensor, Tensor], bool]
"""Called with a few images, the batch that repeats them, and torch's results for the batch."""


@torch.no_grad()
def same_bits(torchs: Step, agrees: Agrees, shape: Sequence[int]) -> bool:
    """Whether another way to compute a step of torch agrees with its result for a batch of images of this shape.

    The batch repeats a few random images, so that the other way needs to compute these alone to be compared with torch
    at every place of the batch. Two orders of a sum often give the same number, so small results are compared many
    times.
    """
    generator = torch.Generator().manual_seed(0)
    compared, images = 0, 1
    while compared < LEAST_COMPARED:
        few = torch.randn(images, *shape[1:], generator=generator, dtype=torch.float32)
        batch = few if images == shape[0] else few[torch.arange(shape[0]) % images]
        expected = torchs(batch)
        if not agrees(few, batch, expected):
            return False
        each = max(1, expected[0].numel())
        compared += images * each
        images = min(shape[0], -(-LEAST_COMPARED // each))
    return True


def repeats(few: Tensor, batch: Tensor) -> bool:
    """Whether the results of a batch are those of a few images, again and again."""
    return all(torch.equal(part, few[: part.shape[0]]) for part in torch.split(batch, few.shape[0]))


def conv_orders(run: Run, weight: Sequence[int], groups: int = 1) -> Iterator[ops.SumOrder]:
    """Orders in which a convolution with weights of this shape, [out, channels / groups, *kernel], may add."""
    whole = torch.Size(weight[1:]).numel()
    for chain in dict.fromkeys((_first_chain(run, weight), whole)):
        for channels_first in (False, True):
            yield ops.SumOrder(channels_first, chain)
    # of matrix products: what is a window there lies with channels first
    last = _in_turn(run, weight, weight[0] // groups)
    if last:
        yield ops.SumOrder(True, whole, last)


def _first_chain(run: Run, weight: Sequence[int]) -> int:
    """Products that are added one by one before a new sum starts, at the pixel in the middle.

    With HUGE at the first product and -HUGE at another, the count of lost ones is the size of the smallest partial sum
    that holds both: 2, 3, 4, ... for the others of the first chain.
    """
    out, products = weight[0], torch.Size(weight[1:]).numel()
    sizes: list[int] = []
    for start in range(1, products, out):
        others = range(start, min(start + out, products))
        w = torch.ones(out, products, dtype=torch.float32)
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


def _in_turn(run: Run, weight: Sequence[int], outputs: int) -> int:
    """So many of the last outputs of the first group do not add the second product to the first."""
    products = torch.Size(weight[1:]).numel()
    if products < 2:
        return 0
    w = torch.ones(weight[0], products, dtype=torch.float32)
    w[:, 0], w[:, 1] = HUGE, -HUGE
    left = _middle(run(w.view(*weight)))[:outputs]
    return sum(n != products - 2 for n in left)


def _middle(images: Tensor) -> list[int]:
    """The channels of the pixel in the middle of the first image, as whole numbers, without the image."""
    return [int(n) for n in images[0, :, images.shape[2] // 2, images.shape[3] // 2].tolist()]
