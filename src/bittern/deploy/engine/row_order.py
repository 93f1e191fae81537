# SPDX-License-Identifier: Apache-2.0
"""In which order torch adds the products of a row: the whole tree of its sum, found by asking it.

With all products 1 but one 2^60 and one -2^60, what is added to either before the two meet is lost, and the result
counts the rest: so it tells how many products stand under the smallest sum that holds both. Those counts for one
product and each other give the sums on its way to the root, and what each takes in; that again is a tree, of which the
same is asked (FPRev, arXiv:2411.00442). The bias is one of what is added. Outputs that a matrix product leaves over at
the edge of its tiles are added in other orders than the rest, so those that answer alike are asked together. Counts do
not tell whether a product is rounded before it is added, or added by an fma: both are tried with random numbers, by
which alone an order counts.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from itertools import groupby
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from bittern import ops
from bittern.deploy.engine.accumulation_order import CPU, HUGE, Agrees, repeats, same_bits
from bittern.deploy.kinds.kind import Step
from bittern.deploy.kinds.real import CONV, LINEAR
from bittern.deploy.program import Node
from bittern.ops import SumTree, TreePart
from bittern.ops.binary_block.layout import one_array
from bittern.ops.real_linear.order import MOST_SUMS

Sums = list["int | Sums"]
"""[first, second, ...]: a product by its number, or sums of products, added to the first one after the other."""

Pair = tuple[int, int]
"""Numbers of two products; the bias is the one behind the last."""

MOST_STRETCHES = 8
"""Of an order: layers that torch adds in more orders than that stay with it."""


class Stretch(NamedTuple):
    """Outputs that are added alike, side by side."""

    first: int
    end: int
    tree: SumTree


RowOrder = tuple[Stretch, ...]
"""The order of each output of a linear layer."""


class RowProducts:
    """A linear layer in an order, ready to run."""

    def __init__(self, weight: Tensor, bias: Tensor | None, order: RowOrder) -> None:
        self._order = order
        self._products = [
            ops.PreparedRealLinear(weight[first:end], None if bias is None else bias[first:end], tree)
            for first, end, tree in order
        ]

    def steps(self, rows: Tensor) -> np.ndarray:
        """The records of one call (`PreparedRealLinear.step`). rows: of results, float32 [batch, out]."""
        pairs = zip(self._products, self._order, strict=True)
        return one_array([product.step(rows.shape[0], rows[:, first:end]) for product, (first, end, _) in pairs])


@torch.no_grad()
def exact_row_order(
    node: Node, tensors: Mapping[str, Tensor], known: Iterable[RowOrder], shape: Sequence[int]
) -> RowOrder | None:
    """The order in which a product of rows of this shape, [batch, features], has torch's bits, or None.

    tensors: of the node, by role, its weight [out, features]. known: orders that it had at other batch sizes, which are
    tried first.
    """
    generator = torch.Generator().manual_seed(1)
    drawn = {role: torch.randn(t.shape, generator=generator, dtype=torch.float32) for role, t in tensors.items()}
    torchs, tried = rows_by_torch(node, drawn), set[RowOrder]()
    for order in _likely_orders(known, node, tensors, shape[0]):
        if order in tried:
            continue
        products = RowProducts(drawn["weight"], drawn.get("bias"), order)
        if same_bits(torchs, _agrees(products), shape):
            return order
        tried.add(order)
    return None


def rows_by_torch(node: Node, tensors: Mapping[str, Tensor]) -> Step:
    """A linear layer by torch, or a convolution of single pixels; its weight may change afterwards."""
    if node.kind != CONV.name:
        return LINEAR.build(node, tensors, CPU)
    conv = CONV.build(node, {**tensors, "weight": tensors["weight"][:, :, None, None]}, CPU)
    return lambda rows: conv(rows[:, :, None, None]).flatten(1)


def _agrees(products: RowProducts) -> Agrees:
    """Whether products in an order agree with torch's; what is asked for again and again is prepared once."""

    @cache
    def prepared(rows: int, out: int) -> tuple[Tensor, np.ndarray, ops.Steps]:
        found = torch.empty(rows, out, dtype=torch.float32)
        records = products.steps(found)
        return found, records, ops.Steps(ops.chosen_isa(), records)

    def agrees(few: Tensor, _: Tensor, expected: Tensor) -> bool:
        found, records, steps = prepared(few.shape[0], expected.shape[1])
        records["linear"]["x"], records["sizes"]["input"] = few.data_ptr(), ops.bytes_of(few)
        steps.run()
        return repeats(found, expected)

    return agrees


def _likely_orders(
    known: Iterable[RowOrder], node: Node, tensors: Mapping[str, Tensor], batch: int
) -> Iterator[RowOrder]:
    yield from known
    asked = Asked(node, tensors, batch)
    groups = alike(asked)
    sums = measured(asked.count, groups, asked.counts)
    if sums is None:
        return
    group_of = {output: number for number, outputs in enumerate(groups) for output in outputs}
    stretches = [(number, list(some)) for number, some in groupby(range(asked.outputs), group_of.__getitem__)]
    if len(stretches) > MOST_STRETCHES:
        return
    for fused in (True, False):
        trees = [tree_of(each, asked.bias, fused) for each in sums]
        if all(tree.most_held <= MOST_SUMS for tree in trees):
            yield tuple(Stretch(outputs[0], outputs[-1] + 1, trees[number]) for number, outputs in stretches)


# -- asking torch ----------------------------------------------------------------------------------------------


class Asked:
    """A linear layer of ones by torch, which is asked about pairs of its products."""

    def __init__(self, node: Node, tensors: Mapping[str, Tensor], batch: int) -> None:
        self.outputs, self._features = tensors["weight"].shape
        ones = {role: torch.ones(t.shape, dtype=torch.float32) for role, t in tensors.items()}
        self._torchs = rows_by_torch(node, ones)
        self._rows = torch.ones(batch, self._features, dtype=torch.float32)
        self._weight = ones["weight"].numpy()
        self._bias = ones["bias"].numpy() if "bias" in ones else None
        self.count = self._features + ("bias" in ones)
        """Of what is added: products, and the bias."""
        self.bias = self._features if "bias" in ones else None
        """The number of the bias."""

    def counts(self, questions: Sequence[tuple[Sequence[int], Sequence[Pair]]]) -> list[list[int]]:
        """How many products stand under the smallest sum that holds both of each pair.

        questions: outputs, and the pairs that they are asked about. Every call of torch asks each output about one.
        """
        found: list[list[int]] = [[] for _ in questions]
        for turn in range(max(-(-len(pairs) // len(outputs)) for outputs, pairs in questions)):
            asked = [
                (counts, output, pair)
                for counts, (outputs, pairs) in zip(found, questions, strict=True)
                for output, pair in zip(outputs, pairs[turn * len(outputs) :], strict=False)
            ]
            for _, output, pair in asked:
                self._put(output, pair, (HUGE, -HUGE))
            left = self._torchs(self._rows)[0].tolist()
            for counts, output, pair in asked:
                counts.append(self.count - int(left[output]))
                self._put(output, pair, (1.0, 1.0))
        return found

    def at_all(self, pair: Pair) -> list[int]:
        """The same for one pair, at each output."""
        everywhere = slice(None)
        self._put(everywhere, pair, (HUGE, -HUGE))
        left = self._torchs(self._rows)[0].tolist()
        self._put(everywhere, pair, (1.0, 1.0))
        return [self.count - int(n) for n in left]

    def _put(self, output: int | slice, pair: Pair, values: tuple[float, float]) -> None:
        for product, value in zip(pair, values, strict=True):
            if product < self._features:
                self._weight[output, product] = value
            else:
                assert self._bias is not None
                self._bias[output] = value


def alike(asked: Asked) -> list[list[int]]:
    """Outputs that give the same answers about a few pairs, together."""
    others = {1, 2, 4, 8, 16, asked.count // 2, asked.count - 5, asked.count - 2, asked.count - 1}
    answers = [asked.at_all((0, other)) for other in sorted(others) if 0 < other < asked.count]
    found: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for output in range(asked.outputs):
        found[tuple(answer[output] for answer in answers)].append(output)
    return list(found.values())


Ask = Callable[[Sequence[tuple[Sequence[int], Sequence[Pair]]]], Sequence[Sequence[int]]]
"""As `Asked.counts`."""


def measured(count: int, groups: Sequence[Sequence[int]], ask: Ask) -> list[Sums] | None:
    """The sums of so many products at each group of outputs.

    None where the answers fit no tree of sums of two, or one too deep.
    """
    products = list(range(count))
    whole: list[Sums] = [[0] for _ in groups]
    open_ = [[(products, sums)] if count > 1 else [] for sums in whole]  # products, and the list of what they become
    for _ in range(MOST_SUMS):
        if not any(open_):
            return whole
        pairs = [[(some[0], other) for some, _ in each for other in some[1:]] for each in open_]
        answers = ask(list(zip(groups, pairs, strict=True)))
        parted = [_parted(each, iter(answer)) for each, answer in zip(open_, answers, strict=True)]
        if None in parted:
            return None
        open_ = [each for each in parted if each is not None]
    return None


def _parted(asked: list[tuple[list[int], Sums]], answers: Iterator[int]) -> list[tuple[list[int], Sums]] | None:
    """What is to be asked next; None where the answers fit no tree."""
    deeper: list[tuple[list[int], Sums]] = []
    for products, sums in asked:
        met: dict[int, list[int]] = defaultdict(list)
        for other in products[1:]:
            met[next(answers)].append(other)
        reached = 1
        sums[:] = products[:1]
        for size, others in sorted(met.items()):
            reached += len(others)
            if size != reached:
                return None
            if len(others) == 1:
                sums.append(others[0])
            else:
                deeper.append((others, []))
                sums.append(deeper[-1][1])
    return deeper


# -- from sums to a tree ---------------------------------------------------------------------------------------


def tree_of(sums: Sums, bias: int | None, fused: bool) -> SumTree:
    """The order that stands behind sums, where the bias has that number."""
    parts: list[tuple[TreePart, int]] = []
    products: list[int] = []
    _put(sums, bias, parts, products)
    return SumTree(tuple(parts), tuple(products), fused)


def _put(sums: Sums, bias: int | None, parts: list[tuple[TreePart, int]], products: list[int]) -> None:
    """Append sums, as one that is held, to the parts and products of a tree."""
    first, *others = sums
    assert isinstance(first, int)
    parts.append((TreePart.START, 1))
    products.append(first)
    for other in others:
        if isinstance(other, int) and other != bias:
            products.append(other)
            if parts[-1][0] == TreePart.ADD:
                parts.append((TreePart.EXTEND, 1))
            else:
                parts[-1] = parts[-1][0], parts[-1][1] + 1
            continue
        if isinstance(other, list):
            _put(other, bias, parts, products)
        else:
            parts.append((TreePart.BIAS, 0))
        parts.append((TreePart.ADD, 0))
