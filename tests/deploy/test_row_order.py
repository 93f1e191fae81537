# SPDX-License-Identifier: Apache-2.0
"""Linear layers run native where the order of torch's sums is found, and by torch where it is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from bittern.binary import BNN, BiRealNet
from bittern.deploy import Packed, pack
from bittern.deploy.engine import row_order
from bittern.deploy.engine.groups.rows import RowProduct
from bittern.deploy.engine.groups.torch_node import TorchNode
from bittern.deploy.engine.row_order import Stretch, Sums, exact_row_order, measured, tree_of
from bittern.deploy.program import Node
from bittern.nn import BinaryConv2d, BinaryLinear
from bittern.ops import SumTree, TreePart

START, EXTEND, ADD, BIAS = TreePart

SUMS: dict[str, Sums] = {
    "one by one": [0, 1, 2, 3, 4, 5],
    "bias first": [0, 5, 1, 2, 3, 4],
    "two lanes": [0, 2, 4, [1, 3, 5]],
    "four lanes in pairs": [0, 4, 8, [1, 5, 9], [2, 6, 10, [3, 7]], 11],
    "blocks behind the bias": [0, 1, 2, 9, [3, 4, 5], [6, 7, 8]],
    "one": [0],
}
"""Of six to twelve products, the last of which may be the bias."""


def leaves(sums: Sums) -> list[int]:
    return [leaf for one in sums for leaf in (leaves(one) if isinstance(one, list) else [one])]


def count(sums: Sums, pair: tuple[int, int]) -> int:
    """The products under the smallest sum that holds both."""
    for one in sums:
        if isinstance(one, list) and set(pair) <= set(leaves(one)):
            return count(one, pair)
    so_far: list[int] = []
    for one in sums:
        so_far += leaves([one])
        if set(pair) <= set(so_far):
            return len(so_far)
    raise AssertionError(pair)


@pytest.mark.parametrize("name", SUMS)
def test_sums_are_measured(name: str) -> None:
    sums = SUMS[name]
    asked: list[int] = []

    def ask(questions: Sequence[tuple[Sequence[int], Sequence[tuple[int, int]]]]) -> list[list[int]]:
        asked.append(len(questions))
        return [[count(sums, pair) for pair in pairs] for _, pairs in questions]

    assert measured(len(leaves(sums)), [[0], [1, 2]], ask) == [sums, sums]
    assert len(asked) <= 4


def test_answers_that_fit_no_tree_of_pairs_are_none() -> None:
    def of(size: int, answer: Callable[[tuple[int, int]], int]) -> list[Sums] | None:
        return measured(size, [[0]], lambda questions: [[answer(pair) for pair in pairs] for _, pairs in questions])

    assert of(3, lambda pair: 3) is None  # all three at once
    assert of(5, lambda pair: 5 - pair[0]) == [[0, [1, [2, [3, 4]]]]]  # 0 + (1 + (2 + ...))
    assert of(40, lambda pair: 40 - pair[0]) is None  # too deep


def test_trees_behind_sums() -> None:
    lanes = tree_of(SUMS["four lanes in pairs"], bias=None, fused=True)
    chains = [(START, 3), (START, 3), (ADD, 0), (START, 3), (START, 2), (ADD, 0), (ADD, 0), (EXTEND, 1)]
    assert lanes == SumTree(tuple(chains), (0, 4, 8, 1, 5, 9, 2, 6, 10, 3, 7, 11), fused=True)
    blocks = tree_of(SUMS["blocks behind the bias"], bias=9, fused=False)
    added = [(START, 3), (BIAS, 0), (ADD, 0), (START, 3), (ADD, 0), (START, 3), (ADD, 0)]
    assert blocks == SumTree(tuple(added), tuple(range(9)), fused=False)
    early = tree_of(SUMS["bias first"], bias=5, fused=True)
    assert early == SumTree(((START, 1), (BIAS, 0), (ADD, 0), (EXTEND, 4)), tuple(range(5)), fused=True)


def linear_node(features: int, out: int, bias: bool) -> tuple[Node, dict[str, Tensor]]:
    tensors = {"weight": torch.randn(out, features)} | ({"bias": torch.randn(out)} if bias else {})
    return Node("head", "linear", (0,), 1, {}, {role: role for role in tensors}), tensors


def head(features: int, out: int, bias: bool = True) -> tuple[nn.Module, Packed]:
    torch.manual_seed(0)
    model = nn.Sequential(BinaryLinear(9, features, method=BNN), nn.Linear(features, out, bias)).eval()
    return model, pack(model, torch.randn(2, 9))


def is_native(packed: Packed, batch: int) -> bool:
    with packed.engine.schedule(batch) as schedule:
        (last,) = (group for group in schedule.groups if group.node.kind == "linear")
        assert isinstance(last, RowProduct | TorchNode)
        return isinstance(last, RowProduct)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize(("features", "out"), [(1, 30), (7, 17), (64, 10), (65, 10), (200, 30)])
def test_a_linear_layer_has_torchs_bits(features: int, out: int, bias: bool) -> None:
    """Native where the order is found; which layers those are differs by machine."""
    model, packed = head(features, out, bias)
    with torch.no_grad():
        for batch in (1, 2, 9, 0):
            x = torch.randn(batch, 9)
            assert torch.equal(packed(x), model(x))
    node, tensors = linear_node(features, out, bias)
    assert is_native(packed, 1) == (exact_row_order(node, tensors, (), (1, features)) is not None)


def test_torch_computes_a_layer_whose_order_is_not_found(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = ((START, 20), (START, 44), (ADD, 0), (BIAS, 0), (ADD, 0))
    wrong = Stretch(0, 10, SumTree(parts, tuple(reversed(range(64)))))
    monkeypatch.setattr(row_order, "_likely_orders", lambda *_: iter(((wrong,),)))
    model, packed = head(64, 10)
    assert not is_native(packed, 3)
    x = torch.randn(3, 9)
    with torch.no_grad():
        assert torch.equal(packed(x), model(x))


def test_an_order_that_is_known_is_tried_before_torch_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    node, tensors = linear_node(64, 10, True)
    order = exact_row_order(node, tensors, (), (1, 64))
    monkeypatch.setattr(row_order, "measured", lambda *_: None)
    assert exact_row_order(node, tensors, (), (1, 64)) is None
    assert order is None or exact_row_order(node, tensors, (order,), (1, 64)) == order


def test_a_small_network_is_one_native_call() -> None:
    """Where the order of its head is found, as that of its other real layers is."""
    torch.manual_seed(0)
    x = torch.randn(1, 3, 16, 16)
    stem = nn.Conv2d(3, 16, 3, bias=False), BinaryConv2d(16, 64, 3, stride=2, method=BiRealNet)
    model = nn.Sequential(*stem, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 10)).eval()
    packed = pack(model, x)
    with packed.engine.schedule(1) as schedule:
        by_torch = sum(isinstance(group, TorchNode) for group in schedule.groups)
        assert len(schedule._runs) == 1 or by_torch
    y = packed(x.requires_grad_())
    assert not y.requires_grad
    assert torch.is_grad_enabled()
    assert torch.equal(y, model(x.detach()))
    kept = y.clone()
    packed(torch.zeros(1, 3, 16, 16))
    assert torch.equal(y, kept)  # memory of its own
