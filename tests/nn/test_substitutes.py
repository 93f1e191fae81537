# SPDX-License-Identifier: Apache-2.0
"""Which classes are converted as the layer of torch that they are, and that no other is ever replaced."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern import binary
from bittern.deploy import pack, verify
from bittern.nn import Action, BinaryConv1d, BinaryConv2d, BinaryLinear, Linear4bit, convert, plan_conversion


class Conv1D(nn.Module):
    """x @ weight + bias, as GPT-2 has it."""

    def __init__(self, outputs: int, inputs: int) -> None:
        super().__init__()
        self.nf = outputs
        self.weight = nn.Parameter(torch.randn(inputs, outputs))
        self.bias = nn.Parameter(torch.randn(outputs))

    def forward(self, x: Tensor) -> Tensor:
        return x @ self.weight + self.bias


@pytest.mark.parametrize("outputs", [5, 8])
def test_the_conv1d_of_gpt2_becomes_a_linear_layer_with_its_weight_transposed(outputs: int) -> None:
    layer = Conv1D(outputs, 8).eval()
    layer.weight.requires_grad_(False)
    low = convert(nn.Sequential(layer), binary.BNN, keep=())[0]
    assert isinstance(low, BinaryLinear)
    assert torch.equal(low.weight, layer.weight.T)
    assert not low.weight.requires_grad
    assert not low.training
    x = torch.randn(3, 2, 8)
    expected = torch.where(x >= 0, 1.0, -1.0) @ torch.where(layer.weight >= 0, 1.0, -1.0) + layer.bias
    assert torch.equal(low(x), expected)


def test_the_plan_shows_a_conv1d_under_its_own_class() -> None:
    model = nn.Sequential(Conv1D(6, 4), nn.ReLU(), Conv1D(3, 6))
    rows = plan_conversion(model, lambda name, layer: Linear4bit if name == "0" else None).rows
    assert [(r.kind, r.shape, r.action, r.reason) for r in rows] == [
        ("Conv1D", (6, 4), Action.CONVERT, "rule: Linear4bit; weight [in, out] transposed"),
        ("Conv1D", (3, 6), Action.KEEP, "rule: None"),
    ]
    low = convert(model, lambda name, layer: binary.BNN if name == "0" else None)
    assert type(low[2]) is Conv1D
    assert torch.equal(low[2].weight, model[2].weight)


def _otherwise(layer: nn.Module) -> nn.Module:
    """`layer` in a model that also has a layer which converts."""
    return nn.Sequential(layer, nn.Linear(4, 4))


class Conv1DThatAdds(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(4, 4))
        self.bias = nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)  # the other way round


Conv1DThatAdds.__name__ = "Conv1D"


def test_a_class_of_that_name_that_computes_something_else_is_refused() -> None:
    with pytest.raises(ValueError, match=r"'0' \(Conv1D\): class Conv1D computes something else than x @ weight"):
        convert(_otherwise(Conv1DThatAdds()), binary.BNN, keep=())
    convert(_otherwise(Conv1DThatAdds()), binary.BNN, keep=["0"])


def test_a_conv1d_whose_weight_is_shared_or_hooked_is_refused() -> None:
    model = nn.Sequential(Conv1D(4, 4), Conv1D(4, 4), nn.Linear(4, 4))
    model[1].weight = model[0].weight
    with pytest.raises(ValueError, match=r"'0' .*also that of '1', .*'1' .*also that of '0'"):
        convert(model, binary.BNN, keep=())
    hooked = Conv1D(4, 4)
    hooked.register_forward_hook(lambda m, i, o: None)
    with pytest.raises(ValueError, match="forward hooks would be lost"):
        convert(_otherwise(hooked), binary.BNN, keep=())


@pytest.mark.peers("transformers")
def test_gpt2_of_transformers_converts_and_packs() -> None:
    import transformers

    torch.manual_seed(0)
    config = transformers.GPT2Config(vocab_size=50, n_embd=32, n_layer=2, n_head=4, use_cache=False)
    tokens = torch.randint(0, 50, (2, 9))
    model = transformers.GPT2LMHeadModel(config).eval()
    low = convert(model, binary.BNN, keep=["lm_head", "*.w?e"], example=tokens).eval()
    assert sum(isinstance(m, BinaryLinear) for m in low.modules()) == 8
    assert verify(pack(low, tokens), low, [torch.randint(0, 50, (3, 9))]).exact


class Adds(nn.Conv2d):
    """A subclass with something to say, but nothing of its own to compute."""

    def describe(self) -> str:
        return "a convolution"


class OwnLinear(nn.Linear):
    pass


class OwnConv1d(nn.Conv1d):
    pass


@pytest.mark.parametrize(
    ("layer", "kind"),
    [(Adds(4, 6, 3, 2, 1), BinaryConv2d), (OwnLinear(4, 6), BinaryLinear), (OwnConv1d(4, 6, 3), BinaryConv1d)],
    ids=["conv2d", "linear", "conv1d"],
)
def test_subclasses_that_compute_as_their_base_convert(layer: Any, kind: type) -> None:
    model = nn.Sequential(layer, nn.Sequential(layer))
    low = convert(model, binary.BNN, keep=())
    assert isinstance(low[0], kind)
    assert low[0] is low[1][0]
    assert torch.equal(low[0].weight, layer.weight)
    assert plan_conversion(model, keep=()).rows[0].kind == type(layer).__name__
    if isinstance(layer, nn.Conv2d):
        assert (low[0].stride, low[0].padding) == (layer.stride, layer.padding)


def test_a_subclass_shares_its_weight_and_its_bias() -> None:
    model = nn.Sequential(OwnLinear(4, 4), nn.Linear(4, 4))
    model[1].weight, model[1].bias = model[0].weight, model[0].bias
    low = convert(model, binary.BNN, keep=())
    assert low[0].weight is low[1].weight
    assert low[0].bias is low[1].bias


class Standardised(nn.Conv2d):
    """arXiv:1903.10520: each filter with mean 0 and variance 1."""

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.flatten(1)
        flat = (flat - flat.mean(1, keepdim=True)) / torch.sqrt(flat.var(1, correction=0, keepdim=True) + 1e-5)
        return F.conv2d(x, flat.view_as(self.weight), self.bias, self.stride, self.padding, self.dilation, self.groups)


class Scaled(nn.Conv2d):
    """arXiv:2101.08692: with a learned gain of each filter, too."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.gain = nn.Parameter(torch.randn(self.out_channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        flat = self.weight.reshape(1, self.out_channels, -1)
        gain = self.gain.view(-1) * self.weight[0].numel() ** -0.5
        weight = F.batch_norm(flat, None, None, weight=gain, training=True, momentum=0.0, eps=1e-6)
        weight = weight.reshape_as(self.weight)
        return F.conv2d(x, weight, self.bias, self.stride, self.padding, self.dilation, self.groups)


@pytest.mark.parametrize("groups", [1, 2])
@pytest.mark.parametrize("kind", [Standardised, Scaled])
def test_convolutions_that_standardise_their_weight_start_from_the_standardised_one(kind: Any, groups: int) -> None:
    torch.manual_seed(0)
    layer = kind(4, 6, 3, stride=2, padding=1, dilation=2, groups=groups)
    with torch.no_grad():
        layer.weight.add_(0.2)  # so that signs change
    low = convert(nn.Sequential(layer), binary.BNN, keep=())[0]
    assert isinstance(low, BinaryConv2d)
    x = torch.randn(2, 4, 9, 9)
    with torch.no_grad():
        assert torch.equal(F.conv2d(x, low.weight, low.bias, 2, 1, 2, groups), layer(x))
    assert not torch.equal(low.weight.detach().sign(), layer.weight.detach().sign())
    assert low.bias is not None
    assert (low.stride, low.padding, low.dilation, low.groups) == ((2, 2), (1, 1), (2, 2), groups)
    (row,) = plan_conversion(nn.Sequential(layer), keep=()).rows
    assert row.reason == f"{kind.__name__} standardises its weight: done once, here, and not again in training"
    assert row.kind == kind.__name__


def test_a_standardised_convolution_that_stays_goes_on_standardising() -> None:
    model = nn.Sequential(Scaled(4, 4, 3), Scaled(4, 4, 3), Scaled(4, 4, 3))
    low = convert(model, binary.BNN)
    assert [type(m) for m in low] == [Scaled, BinaryConv2d, Scaled]
    assert low.state_dict().keys() == {*model.state_dict().keys()} - {"1.gain"}


def test_filters_of_gain_0_start_without_it() -> None:
    layer = Scaled(4, 6, 3)
    with torch.no_grad():
        layer.gain[:2] = 0.0
    model = nn.Sequential(layer)
    (row,) = plan_conversion(model, keep=()).rows
    assert row.reason.endswith("; 2 of 6 filters were multiplied by 0, and start without that")
    low, weight = convert(model, binary.BNN, keep=())[0], layer.weight.detach()
    assert torch.equal(low.weight[:2], (weight - weight.mean(dim=(1, 2, 3), keepdim=True))[:2])
    x = torch.randn(2, 4, 9, 9)
    with torch.no_grad():
        assert torch.equal(F.conv2d(x, low.weight, low.bias)[:, 2:], layer(x)[:, 2:])


class Masked(nn.Conv2d):
    """A PixelCNN's: taps that the mask takes away must not come back as signs."""

    def __init__(self) -> None:
        super().__init__(4, 4, 3)
        self.register_buffer("mask", torch.ones(3, 3).tril())

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * self.mask, self.bias)


class MaskedInPlace(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        self.weight.data[:, :, 2, 2] = 0.0
        y: Tensor = super().forward(x)
        return y


class MaskedByAttribute(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * torch.ones(3, 3).tril(), self.bias)


class PadsItself(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (1, 1, 1, 1)), self.weight * 2, self.bias)


class AddsItself(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * 2, self.bias) + 1


class DependsOnInput(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight * x.mean(), self.bias)


class Sorted(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight.flatten(1).sort(1)[0].view_as(self.weight), self.bias)


class Limited(nn.Linear):
    """Writes into its weight at every call."""

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data.clamp_(-0.1, 0.1)
        return F.linear(x, self.weight * 2, self.bias)


class OwnBias(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight * 2, self.bias + 1)


class Twice(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(F.linear(x, self.weight * 2, self.bias), self.weight * 2, self.bias)


class Fails(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        raise RuntimeError("no")


class OwnConvForward(nn.Conv2d):
    def _conv_forward(self, input: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return -super()._conv_forward(input, weight, bias)


class OwnCall(nn.Linear):
    def __call__(self, x: Tensor) -> Tensor:
        return -super().__call__(x)


class HoldsMore(nn.Linear):
    def __init__(self) -> None:
        super().__init__(4, 4)
        self.more = nn.Parameter(torch.zeros(4))


@pytest.mark.parametrize(
    "layer",
    [
        Masked(),
        *(kind(4, 4, 3) for kind in (MaskedInPlace, MaskedByAttribute, PadsItself, AddsItself, DependsOnInput, Sorted)),
        *(kind(4, 4) for kind in (Limited, OwnBias, Twice, Fails, OwnCall)),
        OwnConvForward(4, 4, 3),
        HoldsMore(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_subclasses_that_compute_anything_else_are_refused_and_left_alone(layer: nn.Module) -> None:
    state = {name: value.clone() for name, value in layer.state_dict().items()}
    kind = type(layer).__name__
    with pytest.raises(ValueError, match=rf"'0' \({kind}\): class {kind} may compute something else than its base"):
        convert(_otherwise(layer), binary.BNN, keep=())
    low = convert(_otherwise(layer), binary.BNN, keep=["0"])
    assert type(low[0]) is type(layer)
    assert all(torch.equal(value, state[name]) for name, value in layer.state_dict().items())
    assert all(torch.equal(value, state[name]) for name, value in low[0].state_dict().items())


def test_a_forward_that_was_put_on_the_object_is_not_lost() -> None:
    layer = nn.Linear(4, 4)
    layer.forward = lambda x: -F.linear(x, layer.weight)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="its forward was replaced by another function, which would be lost"):
        convert(_otherwise(layer), binary.BNN, keep=())


def test_hooks_of_the_backward_pass_are_not_lost() -> None:
    layer = nn.Linear(4, 4)
    layer.register_full_backward_hook(lambda m, i, o: None)
    with pytest.raises(ValueError, match="hooks would be lost"):
        convert(_otherwise(layer), binary.BNN, keep=())


def test_nothing_random_is_drawn_from_the_callers_generator_by_looking() -> None:
    state = torch.get_rng_state()
    plan_conversion(nn.Sequential(Scaled(4, 4, 3), Conv1D(4, 4), OwnLinear(4, 4)), keep=())
    after = torch.get_rng_state()
    torch.set_rng_state(state)
    nn.Sequential(Scaled(4, 4, 3), Conv1D(4, 4), OwnLinear(4, 4))
    assert torch.equal(torch.get_rng_state(), after)


def test_a_network_with_standardised_convolutions_packs_exactly() -> None:
    torch.manual_seed(0)
    blocks = [layer for _ in range(3) for layer in (Scaled(8, 8, 3, padding=1), nn.BatchNorm2d(8))]
    head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 3))
    model, x = nn.Sequential(nn.Conv2d(3, 8, 3), *blocks, *head).eval(), torch.randn(4, 3, 9, 9)
    low = convert(model, binary.BNN, example=x).eval()
    report = verify(pack(low, x), low, [x[:3]])
    assert report.exact
    assert len(report.layers) == 3
