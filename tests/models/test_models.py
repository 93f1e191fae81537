# SPDX-License-Identifier: Apache-2.0
"""The networks: shapes, gradients, float twins, tracing and compilation, with every method."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, fx, nn

from _tolerance import assert_exact
from bittern import binary, models
from bittern.binary import BNN, XNORNetPlusPlus
from bittern.models.binary_densenet import DenseLayer
from bittern.models.melius_net import ImprovementBlock
from bittern.models.quick_net import BlurPool
from bittern.models.resnet_cifar import ResNetCifar
from bittern.nn import LowBitLayer, convert, first_and_last
from bittern.quantizer import Quantizer

Build = Callable[..., nn.Module]
every_model = pytest.mark.parametrize("build", models.ALL, ids=lambda b: b.__name__)
DEEP = (
    models.binary_densenet37,
    models.binary_densenet37_dilated,
    models.binary_densenet45,
    models.meliusnet29,
    models.meliusnet42,
    models.meliusnet59,
    models.meliusnet_a,
    models.meliusnet_b,
    models.meliusnet_c,
    models.quicknet_large,
    models.resnet_e34,
    models.alexnet,
    models.bnext_small,
    models.bnext_middle,
    models.bnext_large,
    models.pokebnn_1x,
    models.pokebnn_2x,
)
"""More of the layers that another network has, or so many weights that they take seconds to draw; run by `slow`."""
every_method = pytest.mark.parametrize(
    "method", [None, *binary.ALL], ids=lambda m: "float" if m is None else m.__name__
)


def _low_bit(model: nn.Module) -> list[str]:
    return [name for name, m in model.named_modules() if isinstance(m, LowBitLayer)]


def _leaf(module: nn.Module) -> bool:
    return module.__module__.startswith(("torch.nn", "bittern.nn"))


class _Tracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return _leaf(m)


@pytest.mark.parametrize(
    "build",
    [pytest.param(build, marks=pytest.mark.slow if build in DEEP else ()) for build in models.ALL],
    ids=lambda b: b.__name__,
)
@pytest.mark.parametrize(("size", "channels"), [(28, 1), (32, 3)])
def test_models_run_on_small_images_and_trace(build: Build, size: int, channels: int) -> None:
    torch.manual_seed(0)
    model = build(BNN, 7, channels, input_size=size).eval()
    x = torch.randn(2, channels, size, size)
    y = model(x)
    assert y.shape == (2, 7)
    traced = fx.GraphModule(model, _Tracer().trace(model))
    assert_exact(traced(x).detach(), y.detach())


@every_model
def test_signatures_are_alike(build: Build) -> None:
    names = list(inspect.signature(build).parameters)
    assert names[:4] == ["method", "num_classes", "in_channels", "input_size"]
    assert build.__name__ in models.__all__


@every_method
def test_gradients_reach_every_parameter_of_resnet20(method: type[Quantizer] | None) -> None:
    torch.manual_seed(0)
    model = models.resnet20_cifar(method, input_size=8)
    model(torch.randn(8, 3, 8, 8)).square().sum().backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not bool((p.grad != 0).any())]
    assert dead == []
    assert all(bool(p.grad.isfinite().all()) for p in model.parameters() if p.grad is not None)


@pytest.mark.parametrize(
    ("build", "method"),
    [
        (models.mlp, binary.ReActNet),
        (models.mlp, None),
        (models.vgg_small, binary.ReActNet),
        (models.bireal_net18, None),
        (models.react_resnet18, binary.ReActNet),
        (models.reactnet_a, binary.ReActNet),
        (models.binary_densenet28, BNN),
        (models.quicknet_small, BNN),
        (models.quicknet_small, None),
    ],
    ids=lambda v: getattr(v, "__name__", "float"),
)
def test_gradients_reach_every_parameter(build: Build, method: type[Quantizer] | None) -> None:
    torch.manual_seed(0)
    model = build(method, in_channels=1, input_size=28)
    model(torch.randn(6, 1, 28, 28)).square().sum().backward()
    dead = [n for n, p in model.named_parameters() if p.grad is None or not bool((p.grad != 0).any())]
    assert dead == []


@pytest.mark.parametrize(
    ("build", "keep"),
    [
        (models.resnet20_cifar, [first_and_last]),
        (models.resnet18_cifar, [first_and_last]),
        (models.vgg_small, [first_and_last]),
        (models.bireal_net18, [first_and_last, "*.shortcut.1"]),
        (models.react_resnet18, [first_and_last, "*.shortcut.1"]),
        (models.reactnet_a, [first_and_last]),
        (models.mlp, [first_and_last]),
    ],
    ids=lambda v: getattr(v, "__name__", ""),
)
def test_the_converted_float_twin_is_the_low_bit_network(build: Build, keep: list[str]) -> None:
    torch.manual_seed(0)
    twin = build(None, in_channels=1, input_size=28)
    low = build(BNN, in_channels=1, input_size=28)
    assert not _low_bit(twin)
    converted = convert(twin, BNN, keep=keep)
    assert _low_bit(converted) == _low_bit(low)
    low.load_state_dict(twin.state_dict())
    x = torch.randn(2, 1, 28, 28)
    assert_exact(converted.eval()(x).detach(), low.eval()(x).detach())


@pytest.mark.parametrize(
    "build", [models.mlp, models.resnet20_cifar, models.bireal_net18, models.reactnet_a], ids=lambda b: b.__name__
)
def test_the_float_twins_are_not_linear(build: Build) -> None:
    torch.manual_seed(0)
    twin = build(None, in_channels=1, input_size=28).eval()
    a, b = 10 * torch.randn(2, 1, 1, 28, 28)
    with torch.no_grad():
        error = (twin(a + b) - twin(a) - twin(b) + twin(torch.zeros_like(a))).abs().max()
        assert error > 0.01 * twin(a).abs().max()


def test_sizes_of_outputs_are_known_from_the_start() -> None:
    model = models.resnet20_cifar(XNORNetPlusPlus, in_channels=1, input_size=28)
    rows = {n: p.shape for n, p in model.named_parameters() if n.endswith("method.beta")}
    assert {tuple(shape) for shape in rows.values()} == {(28,), (14,), (7,)}
    assert all(m.training for m in model.modules())
    model.load_state_dict(copy.deepcopy(model).state_dict())


def test_downsampling_shortcut_averages_and_pads_on_both_sides() -> None:
    torch.manual_seed(0)
    model = models.resnet20_cifar(BNN)
    block = model.blocks[3]
    assert isinstance(block, nn.Module)
    shortcut = block.shortcut
    assert isinstance(shortcut, nn.Module)
    x = torch.randn(2, 16, 4, 4)
    y = shortcut(x)
    assert y.shape == (2, 32, 2, 2)
    assert bool((y[:, :8] == 0).all())
    assert bool((y[:, 24:] == 0).all())
    torch.testing.assert_close(y[:, 8:24, 0, 1], x[:, :, :2, 2:].mean((2, 3)), rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("shortcut", ["per_conv", "per_block"])
def test_shortcuts_go_around_a_convolution_or_a_block(shortcut: str) -> None:
    torch.manual_seed(0)
    model = models.resnet20_cifar(BNN, shortcut=shortcut).eval()
    block = model.blocks[0]
    for bn in (block.bn1, block.bn2):
        nn.init.zeros_(bn.weight)
    nn.init.constant_(block.bn1.bias, 0.25)
    x = torch.rand(2, 16, 4, 4) / 2
    expected = x + 0.25 if shortcut == "per_conv" else x
    torch.testing.assert_close(block(x), expected, rtol=1e-6, atol=1e-6)


def test_reactnet_doubling_keeps_two_copies_of_the_shortcut() -> None:
    torch.manual_seed(0)
    block = models.reactnet_a(BNN).blocks[0].eval()
    for bn in (block.bn1, block.bn2):
        nn.init.zeros_(bn.weight)
    x = torch.rand(2, 32, 4, 4)
    assert_exact(block(x).detach(), torch.cat((x, x), 1))


def test_dense_layers_append_and_improvement_blocks_change_what_was_appended() -> None:
    torch.manual_seed(0)
    x = torch.randn(2, 96, 5, 5)
    layer = DenseLayer(96, BNN, 2).eval()
    y = layer(x)
    assert y.shape == (2, 160, 5, 5)
    assert_exact(y[:, :96], x)
    assert bool((y[:, 96:] != 0).any())
    better = ImprovementBlock(160, BNN, 1).eval()(y).detach()
    assert_exact(better[:, :96], x)
    assert bool((better[:, 96:] != y[:, 96:]).any())


def test_padding_is_the_authors_where_inputs_are_signs() -> None:
    def pads(model: nn.Module) -> set[object]:
        return {m.geometry.pad_value for m in model.modules() if isinstance(m, LowBitLayer)}

    assert pads(models.meliusnet_c(BNN)) == pads(models.binary_densenet28(BNN)) == {-1}
    assert pads(models.quicknet_small(BNN)) == {1}
    assert pads(models.quicknet_small(binary.DoReFa)) == {0}


def test_small_images_keep_their_size_in_the_first_layers() -> None:
    x = torch.zeros(1, 3, 32, 32)
    for build in (models.meliusnet_c, models.quicknet_small):
        assert build(BNN, input_size=32).stem(x).shape[2:] == (32, 32)
        assert build(BNN, input_size=64).stem(x).shape[2:] == (8, 8)


def test_blurred_pools_weigh_the_neighbours() -> None:
    image = torch.zeros(1, 2, 5, 5)
    image[0, 0, 2, 1], image[0, 1, 2, 2] = 16.0, 16.0
    blurred = BlurPool(2)(image)
    assert_exact(blurred[0, 0], torch.tensor([[0.0, 0.0, 0.0], [2.0, 2.0, 0.0], [0.0, 0.0, 0.0]]))
    assert_exact(blurred[0, 1], torch.tensor([[0.0, 0.0, 0.0], [0.0, 4.0, 0.0], [0.0, 0.0, 0.0]]))


@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
def test_compiled_resnet_equals_eager() -> None:
    torch.manual_seed(0)
    torch.compiler.reset()
    # one block a stage instead of resnet20_cifar's three: the same code, compiled in a third of the time
    model = ResNetCifar(
        binary.ReActNet, 10, 3, widths=(16, 32, 64), blocks=(1, 1, 1), shortcut="per_conv", stem_activation=True
    )
    compiled = torch.compile(copy.deepcopy(model), fullgraph=True, backend="aot_eager")
    x = torch.randn(4, 3, 16, 16)
    results: list[list[Tensor]] = []
    for net in (model, compiled):
        y = net(x)
        y.square().sum().backward()
        results.append([y.detach(), *(p.grad for p in net.parameters() if p.grad is not None)])
    assert len(results[0]) == len(results[1]) == 1 + len(list(model.parameters()))
    for eager, other in zip(*results, strict=True):
        assert_exact(other, eager)


@every_model
def test_methods_and_sizes_that_are_none_are_refused(build: Build) -> None:
    with pytest.raises(TypeError, match=rf"{build.__name__}: method must be a Quantizer class; got 'BNN'"):
        build("BNN")
    for name in ("num_classes", "in_channels", "input_size"):
        with pytest.raises(ValueError, match=rf"{build.__name__}: {name} must be an integer of at least 1; got 0"):
            build(BNN, **{name: 0})


def test_options_that_do_not_exist_are_refused() -> None:
    with pytest.raises(ValueError, match="shortcut must be"):
        models.resnet20_cifar(BNN, shortcut="none")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="input_size must be at least 8"):
        models.vgg_small(BNN, input_size=7)
    for widths in ((), (4,), (4, 0)):
        with pytest.raises(ValueError, match="widths must be at least two"):
            models.mlp(BNN, widths=widths)
