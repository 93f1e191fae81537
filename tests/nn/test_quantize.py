# SPDX-License-Identifier: Apache-2.0
"""quantize: which layers of a model are frozen, which stay and why, and that nothing is left out in silence."""

from __future__ import annotations

import copy
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _tolerance import assert_exact
from bittern import binary
from bittern.nn import Action, BinaryLinear, Linear4bit, Linear8bit, convert, first_and_last, quantize
from bittern.ops import codebooks

KINDS = [Linear4bit, Linear8bit]


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


class Tiny(nn.Module):
    """A language model in small: embedding, two layers, a head that may be tied."""

    def __init__(self, tied: bool = False) -> None:
        super().__init__()
        self.embed = nn.Embedding(10, 64)
        self.blocks = nn.ModuleList([nn.Sequential(nn.LayerNorm(64), nn.Linear(64, 64)) for _ in range(2)])
        self.head = nn.Linear(64, 10, bias=False)
        if tied:
            self.head.weight = self.embed.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embed(tokens)
        for block in self.blocks:
            x = x + block(x)
        y: Tensor = self.head(x)
        return y


TOKENS = torch.tensor([[1, 2, 3], [4, 5, 6]])


@pytest.mark.parametrize("kind", KINDS)
def test_every_linear_layer_is_frozen_and_the_model_untouched(kind: type[Linear4bit] | type[Linear8bit]) -> None:
    model = Tiny().eval()
    before = copy.deepcopy(model.state_dict())
    small = quantize(model, kind, example=TOKENS)
    assert [name for name, m in small.named_modules() if isinstance(m, kind)] == ["blocks.0.1", "blocks.1.1", "head"]
    assert not any(isinstance(m, nn.Linear) for m in small.modules())
    assert isinstance(model.head, nn.Linear)
    for name, value in before.items():
        assert_exact(model.state_dict()[name], value)
    with torch.no_grad():
        exact, found = model(TOKENS), small(TOKENS)
    assert float((found - exact).norm()) < 0.3 * float(exact.norm())
    assert small.embed.weight is not model.embed.weight
    bias = small.get_submodule("blocks.0.1").bias
    assert bias is not model.blocks[0][1].bias
    assert not any(m.training for m in small.modules())


def test_options_come_by_a_partial() -> None:
    small = quantize(Tiny(), partial(Linear4bit, code=codebooks.fp4(), block_size=32, nested=True))
    assert isinstance(small, Tiny)
    assert isinstance(small.head, Linear4bit)
    assert (small.head.block_size, small.head.nested) == (32, True)
    assert_exact(small.head.code, codebooks.fp4())
    small = quantize(Tiny(), partial(Linear8bit, threshold=0.0))
    assert small.head.threshold == 0.0


@pytest.mark.parametrize(
    "keep", [["head"], ["h*"], lambda c: c.position == c.total - 1, [lambda c: c.name == "head"], ["head", "embed"]]
)
def test_keep_takes_names_patterns_and_predicates(keep: Any) -> None:
    small = quantize(Tiny(), Linear4bit, keep=keep)
    assert isinstance(small.head, nn.Linear)
    assert isinstance(small.blocks[1][1], Linear4bit)
    assert isinstance(quantize(Tiny(), Linear4bit, keep=first_and_last).blocks[0][1], nn.Linear)


def test_the_plan_says_what_and_why(capsys: pytest.CaptureFixture[str]) -> None:
    plan = quantize(Tiny(), Linear4bit, keep=["blocks.0.*"], dry_run=True)
    assert capsys.readouterr().out == f"{plan}\n"
    assert plan.names(Action.CONVERT) == ("blocks.1.1", "head")
    reasons = {row.name: row.reason for row in plan.rows if row.action is Action.KEEP}
    assert reasons == {"embed": "a look-up multiplies nothing", "blocks.0.1": "keep: blocks.0.*"}


def test_a_tied_head_is_refused_until_it_is_kept() -> None:
    with pytest.raises(ValueError, match=r"cannot freeze 'head' .*its weight is also that of 'embed', .*name them"):
        quantize(Tiny(tied=True), Linear4bit)
    small = quantize(Tiny(tied=True), Linear4bit, keep=["head"])
    assert small.head.weight is small.embed.weight


def test_a_module_under_two_names_stays_one() -> None:
    layer = nn.Linear(64, 64)
    small = quantize(nn.Sequential(layer, nn.ReLU(), nn.Sequential(layer)), Linear4bit)
    assert isinstance(small[0], Linear4bit)
    assert small[0] is small[2][0]
    assert isinstance(quantize(nn.Linear(64, 8), Linear8bit), Linear8bit)


class Conv1D(nn.Module):
    """As transformers has it: y = x W + b."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.randn(64, 64)), nn.Parameter(torch.zeros(64))


class Subclass(nn.Linear):
    pass


def _hooked() -> nn.Module:
    layer = nn.Linear(64, 64)
    layer.register_full_backward_hook(lambda m, i, o: None)
    return layer


def _broken() -> nn.Module:
    layer = nn.Linear(64, 64)
    with torch.no_grad():
        layer.weight[1, 2], layer.weight[3, 4] = float("nan"), float("inf")
    return layer


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Conv1D(), "Conv1D holds its weight as .in, out.; put an nn.Linear with weight.T in its place"),
        (Subclass(64, 64), "class Subclass may compute something else"),
        (_hooked(), "its hooks would be lost"),
        (_broken(), r"its weight has 1 NaN and 1 inf, the first at \[1, 2\]"),
        (nn.LazyLinear(4), "no size yet; run the model once"),
        (nn.TransformerEncoderLayer(64, 2, 64), "multiplies by its weight without calling it"),
    ],
)
def test_layers_that_cannot_be_frozen_are_refused_unless_kept(layer: nn.Module, message: str) -> None:
    model = nn.Sequential(layer, nn.Linear(64, 4))
    with pytest.raises(ValueError, match=rf"quantize: cannot freeze '0[^']*' .*{message}.*name them in keep"):
        quantize(model, Linear4bit)
    inside = isinstance(layer, nn.TransformerEncoderLayer)
    small = quantize(model, Linear4bit, keep=["0.*" if inside else "0"])
    assert isinstance(small[1], Linear4bit)


def test_other_matrices_stay_with_a_warning_until_they_are_kept() -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stacked = nn.Parameter(torch.randn(4, 8, 8))

    model = nn.Sequential(nn.Conv2d(3, 4, 3), Experts(), nn.Linear(64, 4))
    with pytest.warns(UserWarning, match=r"quantize: not in Linear4bit: '0' \(Conv2d \[4, 3, 3, 3\]\): Conv2d is"):
        quantize(model, Linear4bit)
    with pytest.warns(UserWarning, match=r"'1' \(Experts \[4, 8, 8\]\)"):
        quantize(model, Linear4bit, keep=["0"])
    quantize(model, Linear4bit, keep=["0", "1"])


def test_low_bit_layers_stay_as_they_are() -> None:
    model = nn.Sequential(nn.Linear(64, 64), BinaryLinear(64, 64, method=binary.FDA), Linear8bit(64, 64))
    small = quantize(model, Linear4bit)
    assert [type(m) for m in small] == [Linear4bit, BinaryLinear, Linear8bit]


def test_a_weight_that_is_read_elsewhere_stays_where_an_example_shows_it() -> None:
    class Reads(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(64, 64), nn.Linear(64, 64)

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = F.linear(self.a(x), self.b.weight)
            return y

    with pytest.warns(UserWarning, match=r"'b' \(Linear \[64, 64\]\): '\(model\)' reads its weight itself"):
        small = quantize(Reads(), Linear4bit, example=torch.randn(2, 64))
    assert isinstance(small.b, nn.Linear)
    assert isinstance(small.a, Linear4bit)


def test_a_forward_that_goes_on_using_the_old_layer_is_refused() -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(64, 64)
            self.in_a_list = [self.layer]

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.in_a_list[0](x)
            return y

    with pytest.raises(ValueError, match="does not call the new layer 'layer'"):
        quantize(Hidden(), Linear4bit, example=torch.randn(2, 64))


def test_bad_arguments() -> None:
    for layer in (nn.Linear, binary.BNN, "Linear4bit", partial(Linear4bit, 64)):
        with pytest.raises(
            TypeError, match="quantize: layer must be Linear4bit, Linear8bit, LinearGroups, LinearMXFP4, or"
        ):
            quantize(Tiny(), layer)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="Linear8bit has the options threshold; got block_size"):
        quantize(Tiny(), partial(Linear8bit, block_size=64))
    with pytest.raises(ValueError, match=r"layer 'blocks\.0\.1': quantize_4bit: block_size must be a power of two"):
        quantize(Tiny(), partial(Linear4bit, block_size=48))
    with pytest.raises(TypeError, match=r"layer 'blocks\.0\.1': Linear4bit: linear.weight must be float32.*linear.fl"):
        quantize(Tiny().double(), Linear4bit)
    with pytest.raises(ValueError, match=r"quantize: keep names 'heed', .*did you mean 'head'"):
        quantize(Tiny(), Linear4bit, keep=["heed"])
    with pytest.raises(ValueError, match="no layer is left for Linear4bit"):
        quantize(Tiny(), Linear4bit, keep=lambda c: True)
    for kind in KINDS:
        with pytest.raises(TypeError, match=rf"call bittern.nn.quantize\(model, {kind.__name__}\)"):
            convert(Tiny(), kind)  # type: ignore[call-overload]


@pytest.mark.parametrize("kind", KINDS)
def test_adapters_train_on_the_whole_model(kind: type[Linear4bit] | type[Linear8bit]) -> None:
    small = quantize(Tiny(), kind, keep=["head"])
    F.cross_entropy(small(TOKENS).flatten(0, 1), TOKENS.flatten()).backward()
    assert {name for name, p in small.named_parameters() if p.grad is None} == set()
