# SPDX-License-Identifier: Apache-2.0
"""What a traced graph does not show: refused by name, or computed as the module does, whatever the example."""

from __future__ import annotations

import types
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from bittern.binary import BNN, XNORNetPlusPlus
from bittern.deploy import PackError, pack
from bittern.nn import BinaryConv2d

ZEROS = torch.zeros(1, 4, 6, 6)
"""An example that shows nothing by itself."""

pytestmark = pytest.mark.filterwarnings(
    "ignore::bittern.ConstantInputWarning",
    "ignore:.torch.nn.utils.weight_norm. is deprecated:FutureWarning",
)


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(4, 4, 3), nn.Sequential(nn.BatchNorm2d(4), nn.Hardtanh()), BinaryConv2d(4, 4, 3, method=BNN)
    ).eval()


def twice(module: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
    return output * 2


def shifted(module: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (args[0] + 1,)


HOOKS: dict[str, Callable[[nn.Sequential], Any]] = {
    "layer '0' .Conv2d. has a forward hook .twice.": lambda m: m[0].register_forward_hook(twice),
    "layer '0' .Conv2d. has a forward pre-hook .shifted.": lambda m: m[0].register_forward_pre_hook(shifted),
    "layer '1' .Sequential. has a forward hook": lambda m: m[1].register_forward_hook(twice),
    "layer '2' .BinaryConv2d. has a forward pre-hook": lambda m: m[2].register_forward_pre_hook(shifted),
    "the model .Sequential. has a forward hook": lambda m: m.register_forward_hook(twice),
    "always": lambda m: m[1][0].register_forward_hook(twice, always_call=True),
    "forward pre-hook .WeightNorm.*remove_weight_norm": lambda m: nn.utils.weight_norm(m[0]),
    "forward pre-hook .SpectralNorm.*remove_spectral_norm": lambda m: nn.utils.spectral_norm(m[0]),
    "forward pre-hook .L1Unstructured.*prune.remove": lambda m: prune.l1_unstructured(m[0], "weight", 0.5),
    "'weight' by a parametrization.*remove_parametrizations": lambda m: parametrizations.weight_norm(m[0]),
    "layer '2' .*by a parametrization": lambda m: parametrizations.spectral_norm(m[2]),
}


@pytest.mark.parametrize("text", HOOKS)
def test_hooks_and_computed_weights_are_refused_by_name(text: str) -> None:
    model = net()
    HOOKS[text](model)
    with pytest.raises(PackError, match="forward hook" if text == "always" else text):
        pack(model, ZEROS)


def test_a_hook_on_all_modules_is_refused() -> None:
    handle = nn.modules.module.register_module_forward_hook(twice)
    try:
        with pytest.raises(PackError, match="global forward hook"):
            pack(net(), ZEROS)
    finally:
        handle.remove()
    pack(net(), ZEROS)


def test_what_is_wrong_is_named_at_once() -> None:
    model = net()
    model[0].register_forward_hook(twice)
    model[2].register_forward_hook(twice)
    with pytest.raises(PackError, match=r"2 things would be lost: layer '0' .*; layer '2' "):
        pack(model, ZEROS)


class OwnCall(nn.Sequential):
    def __call__(self, x: Tensor) -> Tensor:
        return super().__call__(x) * 2


class Doubled(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * 2


class ForeverTraining(nn.Module):
    """Holds a batch norm that no call of eval reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(4)

    def train(self, mode: bool = True) -> ForeverTraining:
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x)


def replaced(layer: int | None) -> nn.Sequential:
    model = net()
    module = model if layer is None else model[layer]
    plain = module.forward
    module.forward = types.MethodType(lambda self, x: plain(x) * 2, module)  # type: ignore[method-assign]
    return model


@pytest.mark.parametrize(
    ("model", "text"),
    [
        (replaced(0), "layer '0' .Conv2d. had its forward replaced"),
        (replaced(None), "the model's forward or __call__ was replaced"),
        (OwnCall(*net()), "the model's forward or __call__ was replaced"),
        (nn.Sequential(Doubled(4, 4, 3)), "parameter .0.weight. .read outside a layer."),
        (nn.Sequential(net(), ForeverTraining()), "layer '1.norm' .BatchNorm2d. stays in training mode"),
        (nn.DataParallel(net()), "wrapped in DataParallel; pack what is inside, model.module"),
        (torch.optim.swa_utils.AveragedModel(net()), "wrapped in AveragedModel"),
        (nn.Sequential(BinaryConv2d(4, 4, 3, method=XNORNetPlusPlus)), "without a size; run the model once"),
        (nn.Sequential(nn.LazyConv2d(4, 3)), "without a size; run the model once"),
        (lambda x: x, "model must be a torch.nn.Module; got function"),
    ],
    ids=["layer", "root", "call", "subclass", "training", "parallel", "averaged", "lazy method", "lazy", "function"],
)
def test_modules_that_are_not_what_their_type_says(model: Any, text: str) -> None:
    with pytest.raises(PackError, match=text):
        pack(model, ZEROS)


def test_what_cannot_be_copied_is_refused() -> None:
    model = net()
    model.kept = model[0](torch.ones(1, 4, 6, 6))  # type: ignore[assignment]
    with pytest.raises(PackError, match="cannot be copied"):
        pack(model, ZEROS)


# -- in-place operations


class InPlace(nn.Module):
    """A forward of its own around one low-bit layer."""

    def __init__(self, rule: Callable[[InPlace, Tensor], Tensor]) -> None:
        super().__init__()
        self.rule = rule
        self.conv = BinaryConv2d(4, 4, 3, padding=1, method=BNN)
        self.relu = nn.ReLU(inplace=True)
        self.drop = nn.Dropout(0.5, inplace=True)
        self.same = nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return self.rule(self, self.conv(x) + x)


def added(model: InPlace, y: Tensor) -> Tensor:
    same = y
    y += model.conv(y)
    return y * 2 + same


def multiplied(model: InPlace, y: Tensor) -> Tensor:
    kept = model.same(y)
    y *= 3
    kept -= 1
    return y + kept


COMPUTED: dict[str, Callable[[InPlace, Tensor], Tensor]] = {
    "layer": lambda m, y: m.conv(m.relu(y)) + y,
    "layer, result unused": lambda m, y: (m.relu(y), y + 1)[1],
    "function": lambda m, y: F.relu(y, inplace=True) * 0.5 + y,
    "function, by position": lambda m, y: F.hardtanh(y, -0.5, 0.5, True) * 0.5 + y,
    "function, twice": lambda m, y: (F.relu(y, True), F.hardtanh(y, -1.0, 0.5, inplace=True), y)[2],
    "through dropout": lambda m, y: (m.relu(m.drop(y)), y)[1],
    "through identity": lambda m, y: (m.relu(y), m.same(y))[1],
    "augmented sum": added,
    "augmented product": multiplied,
}


@pytest.mark.parametrize("name", COMPUTED)
def test_values_that_are_overwritten_are_read_as_the_module_reads_them(name: str) -> None:
    torch.manual_seed(0)
    model = InPlace(COMPUTED[name]).eval()
    packed = pack(model, ZEROS)
    x = torch.randn(5, 4, 6, 6)
    with torch.no_grad():
        assert torch.equal(packed(x), model(x.clone()))


def through_view(model: InPlace, y: Tensor) -> Tensor:
    flat = torch.flatten(y, 2)
    model.relu(y)
    return flat.reshape(-1, 4, 6, 6) + 1


def augmented_view(model: InPlace, y: Tensor) -> Tensor:
    half = y[:, :2]
    half += 1
    return y


def read_at_the_end(model: InPlace, y: Tensor) -> Tensor:
    turned = y.permute(0, 1, 3, 2)
    F.relu(y, inplace=True)
    return turned


@pytest.mark.parametrize(
    ("rule", "text"),
    [
        (through_view, "layer 'relu' works in place on memory that call 'reshape'"),
        (augmented_view, "call 'iadd' .*reads again|call 'iadd' .* the model's result reads again"),
        (read_at_the_end, "call 'relu' .* that the model's result reads again"),
        (lambda m, y: y.relu_() + y, "'relu_' .* has no packed form"),
        (lambda m, y: torch.add(y, 1, out=y), "argument 'out' has no packed form|cannot be traced"),
    ],
    ids=["view", "slice", "result", "method", "out"],
)
def test_views_of_what_is_overwritten_are_refused(rule: Callable[[InPlace, Tensor], Tensor], text: str) -> None:
    with pytest.raises(PackError, match=text):
        pack(InPlace(rule).eval(), ZEROS)


# -- calls that nobody foresaw


CALLS: dict[str, Callable[[InPlace, Tensor], Any]] = {
    "reshape(shape=)": lambda m, y: y.reshape(shape=(-1, 144)),
    "view(size=)": lambda m, y: y.view(size=(-1, 144)),
    "permute(dims=)": lambda m, y: y.permute(dims=(0, 1, 3, 2)),
    "adaptive pool without a size": lambda m, y: F.adaptive_avg_pool2d(y, (1, None)),  # type: ignore[list-item]
    "a tensor as a limit": lambda m, y: y.clamp(y, y * 2),
    "a size as a number": lambda m, y: y.view(y.size(0), -1),
    "another path for tensors": lambda m, y: y if isinstance(y, Tensor) else y + 1,
    "nothing computed": lambda m, y: torch.ones(1, 4),
    "random": lambda m, y: y * float(torch.rand(())),
    "an index": lambda m, y: y[:, 0],
    "sizes that do not fit": lambda m, y: y.reshape(-1, 7),
    "a fixed batch": lambda m, y: torch.flatten(y + torch.ones(2, 1, 1, 1), 1),
    "a list": lambda m, y: torch.cat([y, 3]),  # type: ignore[list-item]
    "a dimension too far": lambda m, y: torch.flatten(y, 7),
    "a pool larger than the image": lambda m, y: F.max_pool2d(y, 9),
    "a padding of words": lambda m, y: F.pad(y, ("a", "b")),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", CALLS)
def test_no_call_ends_in_anything_but_a_pack_error(name: str) -> None:
    with pytest.raises(PackError, match=r"^pack: "):
        pack(InPlace(CALLS[name]).eval(), ZEROS)


def test_all_calls_without_a_packed_form_are_named() -> None:
    model = nn.Sequential(BinaryConv2d(4, 4, 3, method=BNN), nn.Hardswish(), nn.PixelShuffle(2), nn.GroupNorm(1, 4))
    with pytest.raises(PackError, match=r"'1' .Hardswish., layer '2' .PixelShuffle., layer '3' .GroupNorm. have"):
        pack(model, ZEROS)


def test_a_second_input_is_refused_by_name() -> None:
    class Masked(nn.Module):
        def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
            return x

    with pytest.raises(PackError, match=r"several inputs .'mask'"):
        pack(Masked(), ZEROS)


def test_other_arguments_of_sums_still_pack() -> None:
    for rule in (lambda m, y: torch.add(y, other=y), lambda m, y: torch.mul(input=y, other=y)):
        model = InPlace(rule).eval()
        x = torch.randn(2, 4, 6, 6)
        with torch.no_grad():
            assert torch.equal(pack(model, ZEROS)(x), model(x))
