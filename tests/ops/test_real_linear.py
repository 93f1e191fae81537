# SPDX-License-Identifier: Apache-2.0
"""Products of real rows: every instruction set gives the bits of the reference, in any order of a sum."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from _conv_cases import generator
from _tolerance import assert_exact, assert_reduction
from bittern import ops
from bittern.ops import SumTree, TreePart
from bittern.ops.real_linear.order import MOST_SUMS, chain
from bittern.ops.real_linear.reference import real_linear_reference

ISAS = pytest.mark.parametrize("isa", ops.available_isas(), ids=lambda isa: isa.label)
SIZES = [(1, 10), (7, 17), (8, 1), (63, 10), (64, 65), (65, 17), (1000, 10)]
"""Features and outputs."""


def lanes(features: int, count: int, blocks: int) -> SumTree:
    """The bias, to which blocks of products are added: each by chains side by side, added in pairs."""

    def joined(chains: Sequence[Sequence[int]]) -> list[tuple[TreePart, int]]:
        if len(chains) == 1:
            return [(TreePart.START, len(chains[0]))]
        half = len(chains) // 2
        return [*joined(chains[:half]), *joined(chains[half:]), (TreePart.ADD, 0)]

    parts, products = [(TreePart.BIAS, 0)], list[int]()
    for start in range(0, features, -(-features // blocks)):
        block = range(start, min(features, start + -(-features // blocks)))
        chains = [block[lane::count] for lane in range(min(count, len(block)))]
        parts += [*joined(chains), (TreePart.ADD, 0)]
        products += [product for each in chains for product in each]
    return SumTree(tuple(parts), tuple(products))


def bias_first(features: int) -> SumTree:
    return SumTree(((TreePart.BIAS, 0), (TreePart.EXTEND, features)), tuple(range(features)))


def orders(features: int) -> list[SumTree]:
    whole = [chain(features, True), chain(features, False), bias_first(features), lanes(features, 32, 2)]
    return [lanes(features, 4, 1)._replace(fused=False), *(whole if features < 100 else ())]


def drawn(features: int, out: int, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Rows, weight and bias."""
    shapes = (rows, features), (out, features), (out,)
    x, w, bias = (torch.randn(shape, generator=generator(str(shape))) for shape in shapes)
    return x, w, bias


def run(isa: ops.Isa, x: Tensor, product: ops.PreparedRealLinear) -> Tensor:
    y = torch.full((x.shape[0], product.out_features), -7.0)
    record = product.step(x.shape[0], y)
    record["linear"]["x"], record["sizes"]["input"] = x.data_ptr(), ops.bytes_of(x)
    ops.run_steps(isa, record)
    return y


@ISAS
@pytest.mark.parametrize(("features", "out"), SIZES)
def test_real_linear(isa: ops.Isa, features: int, out: int) -> None:
    x, w, bias = drawn(features, out, 6)
    x[5, 0] = torch.nan
    for order in orders(features):
        given = bias if order.has_bias else None
        expected, product = real_linear_reference(x, w, given, order), ops.PreparedRealLinear(w, given, order)
        for rows in (1, 6):
            found = run(isa, x[:rows], product)
            assert torch.equal(found.isnan(), expected[:rows].isnan())
            assert_exact(found.nan_to_num(), expected[:rows].nan_to_num())


def test_the_reference_is_a_linear_layer() -> None:
    x, w, bias = drawn(65, 17, 4)
    for order in orders(65):
        given = bias if order.has_bias else None
        expected = torch.nn.functional.linear(x.double(), w.double(), None if given is None else given.double())
        found = real_linear_reference(x, w, given, order)
        assert_reduction(found, expected, 65, float(expected.abs().max()))


def test_a_product_depends_on_its_order() -> None:
    """So that the tests above would see a wrong one."""
    x, w, bias = drawn(99, 10, 4)
    found = [real_linear_reference(x, w, bias, order) for order in orders(99) if order.has_bias]
    assert not any(torch.equal(a, b) for a, b in pairwise(found))


def test_a_bias_is_given_where_the_order_adds_one() -> None:
    _, w, bias = drawn(7, 3, 1)
    for given, order in ((bias, chain(7, False)), (None, chain(7, True))):
        with pytest.raises(ValueError, match="bias must be given where the order adds one"):
            ops.PreparedRealLinear(w, given, order)


WRONG = {
    "a product too few": ((TreePart.START, 6),),
    "a product too many": ((TreePart.START, 8),),
    "two sums left": ((TreePart.START, 3), (TreePart.START, 4)),
    "nothing to add": ((TreePart.START, 7), (TreePart.ADD, 0)),
    "nothing to extend": ((TreePart.EXTEND, 7),),
    "no bias": ((TreePart.START, 7), (TreePart.BIAS, 0), (TreePart.ADD, 0)),
    "an unknown part": ((TreePart.START, 7), (4, 0)),
    "too many sums": (
        *[(TreePart.START, 0)] * MOST_SUMS, (TreePart.START, 7), *[(TreePart.ADD, 0)] * MOST_SUMS,
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_tree_that_is_none_is_refused(name: str) -> None:
    x, w, _ = drawn(7, 3, 1)
    product = ops.PreparedRealLinear(w, None, chain(7, False))
    product.tree = torch.tensor(WRONG[name])
    with pytest.raises(RuntimeError, match="planned wrongly: its tree"):
        run(ops.chosen_isa(), x, product)


@pytest.mark.parametrize("wrong", [-1, 7])
def test_a_product_that_is_none_is_refused(wrong: int) -> None:
    x, w, _ = drawn(7, 3, 1)
    product = ops.PreparedRealLinear(w, None, SumTree(((TreePart.START, 7),), (6, 5, 4, 3, 2, 1, 0)))
    assert product.products is not None
    product.products[3] = wrong
    with pytest.raises(RuntimeError, match="planned wrongly: the order of its products"):
        run(ops.chosen_isa(), x, product)
