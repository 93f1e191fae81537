# SPDX-License-Identifier: Apache-2.0
"""Conversion of existing models: what becomes low-bit, what stays, and that nothing is lost or shared by mistake."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from _tolerance import assert_exact
from bittern import binary
from bittern.nn import (
    Action,
    BinaryConv1d,
    BinaryConv2d,
    BinaryLinear,
    Candidate,
    convert,
    first_and_last,
    plan_conversion,
)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4),
        nn.Sequential(nn.Hardtanh(), nn.Conv2d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2, bias=False)),
        nn.Conv2d(6, 6, (1, 3), padding="same"),
        nn.Flatten(2),
        nn.Conv1d(6, 4, 3, stride=2, padding="valid"),
        nn.Flatten(),
        nn.Linear(28, 8),
        nn.Linear(8, 3),
    )


EXAMPLE = torch.zeros(1, 2, 8, 8)


def test_layers_between_the_first_and_the_last_become_low_bit() -> None:
    model = network()
    low = convert(model, binary.BNN)
    assert isinstance(low, nn.Sequential)
    kinds = [type(m) for m in low]
    assert kinds[0] is nn.Conv2d
    assert kinds[3:] == [BinaryConv2d, nn.Flatten, BinaryConv1d, nn.Flatten, BinaryLinear, nn.Linear]
    assert isinstance(low[2], nn.Sequential)
    conv = low[2][1]
    assert isinstance(conv, BinaryConv2d)
    assert conv.geometry == ((2, 2), (2, 2), (2, 2), 2, 0)
    assert conv.bias is None
    assert low[3].geometry.padding == (0, 1)
    assert low[5].geometry.padding == (0,)
    assert low(torch.randn(2, 2, 8, 8)).shape == (2, 3)


def test_weights_are_taken_over_and_the_model_is_untouched() -> None:
    model = network()
    before = copy.deepcopy(model.state_dict())
    low = convert(model, binary.BNN, keep=())
    state = low.state_dict()
    assert state.keys() == before.keys()
    assert [type(m) for m in model] == [type(m) for m in network()]
    for name, value in before.items():
        assert_exact(model.state_dict()[name], value)
        assert_exact(state[name], value)
        assert state[name].data_ptr() != model.state_dict()[name].data_ptr()


def test_mode_dtype_and_frozen_parameters_are_kept() -> None:
    model = network().double().eval()
    model[5].train()
    model[7].weight.requires_grad_(False)
    low = convert(model, binary.ReCU)
    assert not low[3].training
    assert not low[3].method.training
    assert low[5].training
    assert low[5].method.training
    assert not low[7].weight.requires_grad
    assert {p.dtype for p in low.parameters()} == {torch.float64}
    convert(model, binary.BNN, example=EXAMPLE.double())
    assert model[5].training


# DoReFa rounds to 0 what this network, untrained and without norms, has between its layers
@pytest.mark.filterwarnings("ignore::bittern.nn.ConstantInputWarning")
@pytest.mark.parametrize("method", binary.ALL, ids=lambda m: m.__name__)
def test_every_method_converts_and_trains(method: type) -> None:
    low = convert(network(), method, example=EXAMPLE)
    low(torch.randn(4, 2, 8, 8)).square().sum().backward()
    assert all(p.grad is not None for p in low.parameters())


def test_without_example_sizes_come_with_the_first_forward() -> None:
    low = convert(network(), binary.XNORNetPlusPlus)
    with pytest.raises(RuntimeError):
        low.state_dict()
    low(EXAMPLE)
    low.state_dict()


@pytest.mark.parametrize(
    ("keep", "converted"),
    [
        ((), ["0", "2.1", "3", "5", "7", "8"]),
        (["0", "8"], ["2.1", "3", "5", "7"]),
        (["2.*", "[57]"], ["0", "3", "8"]),
        ([first_and_last, "2.*"], ["3", "5", "7"]),
        (lambda c: isinstance(c.module, nn.Linear), ["0", "2.1", "3", "5"]),
        (lambda c: c.position < c.total - 2, ["7", "8"]),
        (lambda c: c.name.startswith("2"), ["0", "3", "5", "7", "8"]),
    ],
)
def test_keep_takes_names_patterns_and_predicates(keep: Any, converted: list[str]) -> None:
    plan = plan_conversion(network(), keep=keep)
    assert list(plan.names(Action.CONVERT)) == converted
    assert [row.name for row in plan.rows] == ["0", "2.1", "3", "5", "7", "8"]
    low = convert(network(), binary.BNN, keep=keep)
    found = [name for name, m in low.named_modules() if isinstance(m, (BinaryConv1d, BinaryConv2d, BinaryLinear))]
    assert found == converted


def test_a_single_layer_is_a_model_too() -> None:
    low = convert(nn.Linear(3, 2), binary.BNN, keep=())
    assert isinstance(low, BinaryLinear)


class Backward(nn.Module):
    """Registers its layers in the opposite order of their calls, and one that it never calls."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(4, 2)
        self.middle = nn.Linear(4, 4)
        self.first = nn.Linear(3, 4)
        self.spare = nn.Linear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.middle(self.middle(self.first(x))))
        return y


def test_with_an_example_positions_follow_the_forward_pass() -> None:
    order: dict[str, tuple[int, int]] = {}

    def note(c: Candidate) -> bool:
        order[c.name] = (c.position, c.total)
        return False

    plan = plan_conversion(Backward(), keep=note, example=torch.zeros(1, 3))
    assert order == {"first": (0, 3), "middle": (1, 3), "last": (2, 3)}
    assert plan.names(Action.KEEP) == ("spare",)
    low = convert(Backward(), binary.BNN, example=torch.zeros(1, 3))
    assert isinstance(low.middle, BinaryLinear)
    assert isinstance(low.first, nn.Linear)
    assert isinstance(low.last, nn.Linear)
    assert plan_conversion(Backward()).names(Action.KEEP) == ("last", "spare")


def test_shared_modules_and_parameters_stay_shared() -> None:
    shared = nn.Linear(4, 4)
    tied = nn.Linear(4, 4)
    tied.weight = shared.weight
    low = convert(nn.Sequential(shared, tied, nn.Sequential(shared)), binary.BNN, keep=())
    assert isinstance(low[0], BinaryLinear)
    assert low[0] is low[2][0]
    assert low[0] is not low[1]
    assert low[0].weight is low[1].weight


def test_low_bit_layers_stay_and_their_insides_are_not_seen() -> None:
    model = nn.Sequential(nn.Linear(4, 4), BinaryLinear(4, 4, method=binary.FDA), nn.Linear(4, 4))
    plan = plan_conversion(model, keep=())
    assert [(row.name, row.action) for row in plan.rows] == [
        ("0", Action.CONVERT),
        ("1", Action.KEEP),
        ("2", Action.CONVERT),
    ]
    assert plan.rows[1].reason == "it is low-bit already"
    convert(model, binary.BNN, keep=())


def test_layers_without_counterpart_are_listed_as_kept() -> None:
    model = nn.Sequential(nn.Embedding(5, 4), nn.Linear(4, 4), nn.ConvTranspose2d(4, 4, 3))
    plan = plan_conversion(model, keep=())
    assert plan.names(Action.KEEP) == ("0", "2")
    assert plan.rows[2].reason == "ConvTranspose2d has no low-bit counterpart"


def test_dry_run_prints_the_plan_and_changes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    model = network()
    plan = convert(model, binary.BNN, keep=[first_and_last, "2.*"], dry_run=True)
    shown = capsys.readouterr().out
    assert shown == f"{plan}\n"
    lines = shown.splitlines()
    assert lines[0].split() == ["layer", "kind", "weight", "action", "because"]
    assert [line.split()[0] for line in lines[2:-2]] == ["0", "2.1", "3", "5", "7", "8"]
    assert lines[3].split()[-3:] == ["keep", "keep:", "2.*"]
    assert lines[-2] == "convert 3, keep 3, refuse 0"
    assert lines[-1].startswith("without an example the order is that of registration")
    assert str(plan_conversion(model, example=EXAMPLE)).endswith("convert 4, keep 2, refuse 0")
    assert [type(m) for m in model] == [type(m) for m in network()]


class Subclass(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x)
        return y * 2


def _hooked() -> nn.Module:
    layer = nn.Linear(4, 4)
    layer.register_forward_hook(lambda m, i, o: None)
    return layer


def _not_finite() -> nn.Module:
    layer = nn.Linear(4, 4)
    nn.init.constant_(layer.weight[:1, :2], float("nan"))
    nn.init.constant_(layer.weight[1:2, :1], float("inf"))
    return layer


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (nn.LazyLinear(4), "no size yet"),
        (Subclass(4, 4), "class Subclass may compute something else"),
        (_hooked(), "forward hooks would be lost"),
        (_not_finite(), "3 NaN or infinite values"),
        (nn.utils.parametrizations.weight_norm(nn.Linear(4, 4)), "class ParametrizedLinear"),
    ],
)
def test_layers_that_cannot_be_converted_are_refused_unless_kept(layer: nn.Module, message: str) -> None:
    model = nn.Sequential(layer, nn.Linear(4, 4))
    with pytest.raises(ValueError, match=rf"convert: cannot convert '0[^']*' .*{message}.*name them in keep"):
        convert(model, binary.BNN, keep=())
    refused = plan_conversion(model, keep=()).names(Action.REFUSE)
    low = convert(model, binary.BNN, keep=refused)
    assert isinstance(low[1], BinaryLinear)


def test_padding_mode_without_padding_and_sized_lazy_layers_convert() -> None:
    model = nn.Sequential(nn.LazyConv2d(4, 3, padding_mode="reflect"), nn.Conv2d(4, 4, 3, padding_mode="circular"))
    low = convert(model, binary.BNN, keep=(), example=torch.zeros(1, 2, 8, 8))
    assert [type(m) for m in low] == [BinaryConv2d, BinaryConv2d]


def test_a_forward_that_goes_on_using_the_old_layer_is_refused() -> None:
    class Hidden(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3)
            self.in_a_list = [self.layer]

        def forward(self, x: Tensor) -> Tensor:
            y: Tensor = self.in_a_list[0](x)
            return y

    with pytest.raises(ValueError, match="does not call the new layer 'layer'"):
        convert(Hidden(), binary.BNN, keep=(), example=torch.zeros(1, 3))


@pytest.mark.parametrize(
    "method", ["BNN", None, binary.BNN.__mro__[1], nn.ReLU, BinaryLinear(2, 2, method=binary.BNN).method]
)
def test_a_method_that_is_no_class_is_refused(method: Any) -> None:
    with pytest.raises(TypeError):
        convert(network(), method)


def test_the_message_for_a_name_says_to_pass_the_class() -> None:
    with pytest.raises(TypeError, match=r"convert: method must be a Quantizer class; got 'BNN'; pass the class"):
        convert(network(), "BNN")  # type: ignore[call-overload]
    with pytest.raises(TypeError, match=r"got a BNN object; pass the class"):
        convert(network(), BinaryLinear(2, 2, method=binary.BNN).method)  # type: ignore[call-overload]


def test_names_that_match_nothing_and_wrong_keeps_are_refused() -> None:
    with pytest.raises(ValueError, match=r"'2', which matches none of the 6 layers; did you mean '2\.\*'\?"):
        convert(network(), binary.BNN, keep=["0", "2"])
    with pytest.raises(ValueError, match=r"did you mean 'middle'\?"):
        convert(Backward(), binary.BNN, keep=["midle"])
    with pytest.raises(TypeError, match=r"pass \['0'\]"):
        convert(network(), binary.BNN, keep="0")
    for keep in (5, [5]):
        with pytest.raises(TypeError, match="convert: keep"):
            convert(network(), binary.BNN, keep=keep)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="example must be a tensor"):
        convert(network(), binary.BNN, example=[1])  # type: ignore[call-overload]


def test_a_conversion_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no layer is left to convert"):
        convert(nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2)), binary.BNN)
    with pytest.raises(ValueError, match="has no Conv1d, Conv2d or Linear"):
        convert(nn.Sequential(nn.ReLU()), binary.BNN)


def test_pad_value_reaches_the_layers_that_pad() -> None:
    low = convert(network(), binary.BNN, pad_value=-1)
    assert low[2][1].geometry.pad_value == -1
    assert low[5].geometry.pad_value == 0
    with pytest.raises(ValueError, match="pad_value=1 has no effect"):
        convert(nn.Linear(2, 2), binary.BNN, keep=(), pad_value=1)
    with pytest.raises(ValueError, match=r"convert: layer '2\.1': .*where padding is 0"):
        convert(network(), binary.DoReFa, pad_value=1)


def test_options_of_a_method_come_by_a_partial() -> None:
    low = convert(network(), partial(binary.DoReFa, weight_bits=2, input_bits=3))
    assert low[3].method.weight_bits == 2
    assert low[3].method.input_bits == 3


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv1d(4, 6, 3, stride=2, padding=1, dilation=2, groups=2),
        nn.Conv2d(4, 6, (3, 1), stride=(1, 2), padding=(2, 0), dilation=(2, 1), groups=2),
        nn.Linear(4, 6),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_a_converted_layer_tells_of_itself_what_the_old_one_told(layer: nn.Module) -> None:
    (low,) = convert(nn.Sequential(layer), binary.BNN, keep=())
    described = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation", "groups")
    described += ("padding_mode", "transposed", "output_padding", "in_features", "out_features")
    told = {name: getattr(layer, name) for name in described if hasattr(layer, name)}
    assert told
    assert {name: getattr(low, name) for name in told} == told
    assert next(low.parameters()).shape == next(layer.parameters()).shape


def test_a_forward_that_reads_its_layers_runs_converted() -> None:
    class PadsItself(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv2d(2, 2, 3, stride=2)

        def forward(self, x: Tensor) -> Tensor:
            pad = self.conv.kernel_size[0] - self.conv.stride[0]
            y: Tensor = self.conv(nn.functional.pad(x.to(self.conv.weight.dtype), (0, pad, 0, pad)))
            return y

    low = convert(PadsItself(), binary.BNN, keep=())
    assert low(torch.randn(1, 2, 8, 8)).shape == (1, 2, 4, 4)


def test_padding_that_is_not_zero_is_not_called_zeros() -> None:
    assert BinaryConv2d(1, 1, 3, padding=1, pad_value=1, method=binary.BNN).padding_mode == "constant"


@pytest.mark.parametrize("training", [True, False])
def test_encoder_layers_of_torch_multiply_by_signs_in_eval_mode_too(training: bool) -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, activation="gelu", batch_first=True)
    model, x = nn.Sequential(nn.Linear(8, 16), layer, nn.Linear(16, 4)), torch.randn(2, 5, 8)
    low_bit = convert(model, binary.BNN, example=x).train(training)
    with torch.no_grad():
        before = low_bit(x)
        for name in ("linear1", "linear2"):
            latent = low_bit.get_submodule(f"1.{name}").weight
            assert isinstance(latent, torch.Tensor)
            latent.mul_(3.0)  # the signs stay as they are
        assert torch.equal(low_bit(x), before)
    assert layer.activation_relu_or_gelu == 2


@pytest.mark.parametrize(
    "computed",
    [nn.utils.weight_norm, nn.utils.spectral_norm, lambda layer: prune.l1_unstructured(layer, "weight", 0.5)],
    ids=["weight norm", "spectral norm", "pruned"],
)
@pytest.mark.filterwarnings("ignore:.torch.nn.utils.weight_norm. is deprecated:FutureWarning")
def test_weights_that_old_hooks_compute_are_copied_with_their_hooks(computed: Callable[[nn.Module], Any]) -> None:
    model, x = nn.Sequential(nn.Conv1d(4, 8, 3), nn.Conv1d(8, 8, 3), nn.Conv1d(8, 8, 3)), torch.randn(2, 4, 20)
    computed(model[0])
    with torch.no_grad():
        first = model.eval()[0](x)
    low = convert(model, binary.BNN, example=x)
    assert isinstance(low[1], BinaryConv1d)
    with torch.no_grad():
        assert torch.equal(low[0](x), first)
        next(low[0].parameters()).zero_()
        next(iter(low[0].parameters())).add_(1.0)
        assert torch.equal(model[0](x), first)
    assert plan_conversion(model, example=x).names(Action.CONVERT) == ("1",)
