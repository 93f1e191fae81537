# SPDX-License-Identifier: Apache-2.0
"""verify: it agrees with what is equal and finds what is not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bittern.binary import BNN
from bittern.deploy import PackError, pack, verify
from bittern.estimators import Clip, binarize
from bittern.nn import BinaryConv2d, BinaryLinear, ConstantInputWarning
from bittern.quantizer import Quantized, Quantizer, SignCode


def model() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        BinaryConv2d(8, 8, 3, padding=1, method=BNN), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(128, 4)
    )


def test_one_changed_weight_is_found() -> None:
    original = model()
    packed = pack(original, torch.randn(1, 8, 4, 4))
    with torch.no_grad():
        original[0].weight[3, 2, 1, 1] *= -1
    report = verify(packed, original, torch.randn(4, 8, 4, 4), noise=False)
    assert not report.exact
    # one weight of the centre tap: every position of one output channel, by +-2
    assert report.layers[0].different == 4 * 16
    assert "layer '0': 64 of 512 differ" in str(report)


def test_a_changed_head_is_found_by_its_logits() -> None:
    original = model()
    packed = pack(original, torch.randn(1, 8, 4, 4))
    with torch.no_grad():
        original[3].bias += 0.01
    report = verify(packed, original, torch.randn(4, 8, 4, 4))
    assert not report.layers[0].different
    assert not report.exact
    assert not report.logits_identical


def test_nan_is_never_exact() -> None:
    original = model()
    packed = pack(original, torch.randn(1, 8, 4, 4))
    with torch.no_grad():
        original[3].bias.fill_(float("nan"))
    assert not verify(packed, original, torch.randn(1, 8, 4, 4)).exact


def test_models_with_other_layers_cannot_be_compared() -> None:
    packed = pack(model(), torch.randn(1, 8, 4, 4))
    other = nn.Sequential(nn.Identity(), BinaryConv2d(8, 8, 3, padding=1, method=BNN), nn.Flatten())
    with pytest.raises(ValueError, match="different low-bit layers"):
        verify(packed, other, torch.randn(1, 8, 4, 4))


# -- what is compared


def test_noise_of_several_sizes_and_scales_is_compared_too() -> None:
    original = model()
    packed = pack(original, torch.zeros(1, 8, 4, 4))
    report = verify(packed, original, torch.zeros(2, 8, 4, 4))
    assert (report.given, report.noise) == (2, 8)
    assert report.logits == 10 * 4
    assert "on 2 samples given and 8 of noise" in str(report)
    alone = verify(packed, original, torch.zeros(1, 8, 4, 4), noise=False)
    assert (alone.given, alone.noise) == (1, 0)
    assert "on 1 sample given and 0 of noise" in str(alone)


def test_several_batches_are_compared_as_one() -> None:
    original = model()
    packed = pack(original, torch.zeros(1, 8, 4, 4))
    batches = [torch.randn(n, 8, 4, 4) for n in (3, 1, 2)]
    report = verify(packed, original, iter(batches), noise=False)
    assert report.given == 6
    assert report.layers == verify(packed, original, torch.cat(batches), noise=False).layers
    with pytest.raises(ValueError, match="got no batch"):
        verify(packed, original, [])
    with pytest.raises(TypeError, match=r"torch\.from_numpy"):
        verify(packed, original, [torch.zeros(1, 8, 4, 4), torch.zeros(1, 8, 4, 4).numpy()])  # type: ignore[list-item]
    with pytest.raises(TypeError, match=r"torch\.from_numpy"):
        verify(packed, original, torch.zeros(1, 8, 4, 4).numpy())


def test_a_difference_that_zeros_do_not_show_is_found() -> None:
    """Every sign of zeros is +1, so two weights that change places give zeros the same sum."""
    original = nn.Sequential(BinaryLinear(8, 4, method=BNN))
    zeros = torch.zeros(1, 8)
    with torch.no_grad():
        original[0].weight[0, :2] = torch.tensor([1.0, -1.0])
        packed = pack(original, zeros)
        original[0].weight[0, :2] = torch.tensor([-1.0, 1.0])
    assert verify(packed, original, zeros, noise=False).exact
    assert not verify(packed, original, zeros).exact


class Counted(nn.Module):
    """Answers otherwise from its third call on."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = model()
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.inner(x) * (2.0 if self.calls > 2 else 1.0)


def test_a_network_that_changes_from_call_to_call_is_refused() -> None:
    with pytest.raises(PackError, match="disagrees with the original"):
        pack(Counted().eval(), torch.zeros(1, 8, 4, 4))


class OneByOne(nn.Module):
    """Cannot take batches of another size."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = model()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x).reshape(1, 4)


def test_a_network_of_one_batch_size_is_refused() -> None:
    with pytest.raises(PackError, match=r"fails on an input .2, 8, 4, 4."):
        pack(OneByOne().eval(), torch.zeros(1, 8, 4, 4))


def test_the_worst_batch_decides() -> None:
    original = model()
    packed = pack(original, torch.randn(1, 8, 4, 4))
    with torch.no_grad():
        original[3].weight[0, 0] += 1e-2
    large, small = torch.randn(1, 8, 4, 4), torch.randn(2, 8, 4, 4)
    for batches in ([large, small], [small, large]):
        report = verify(packed, original, batches)
        assert not report.exact
        assert report.max_difference > report.tolerance > 0.0


def test_nan_in_both_agrees_and_nan_in_one_does_not() -> None:
    original = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    packed = pack(original, torch.randn(1, 4))
    x = torch.randn(3, 4)
    x[1, 2] = float("nan")
    x[2, 0] = float("inf")
    report = verify(packed, original, x)
    assert report.logits_identical
    assert report.exact


# -- constant networks


def constant_net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(8, 8, 3),
        nn.ReLU(),
        BinaryConv2d(8, 8, 1, method=BNN),
        nn.BatchNorm2d(8),
        BinaryConv2d(8, 8, 1, method=BNN),
        nn.Flatten(),
        nn.Linear(32, 4),
    )


def test_exact_is_not_all_that_is_said_of_a_network_that_looks_at_nothing() -> None:
    original = constant_net()
    with pytest.warns(ConstantInputWarning, match=r"pack: the input of 2 of 2 low-bit layers .*'2' \(all \+1\), '4'"):
        packed = pack(original, torch.randn(1, 8, 4, 4))
    report = verify(packed, original, torch.randn(4, 8, 4, 4))
    assert report.exact
    assert report.constant_inputs == ("2", "4")
    assert report.inputs["2"].plus == 1.0
    assert not report.logits_vary
    text = str(report)
    assert "what reaches 2 low-bit layers" in text
    assert "layer '2': 100.0% are +1, 8 of 8 channels never change" in text
    assert "the logits do not depend on the input" in text


def test_a_network_that_looks_is_not_accused() -> None:
    original = constant_net()
    original[1] = nn.Hardtanh()
    report = verify(pack(original, torch.zeros(1, 8, 4, 4)), original, torch.zeros(1, 8, 4, 4))
    assert report.constant_inputs == ()
    assert report.logits_vary
    assert "depend" not in str(report)
    single = verify(pack(original, torch.zeros(1, 8, 4, 4)), original, torch.zeros(1, 8, 4, 4), noise=False)
    assert single.logits_vary, "one sample cannot tell"


# -- scales of the input


class Scaled(Quantizer):
    """Signs of the input with a scale."""

    def weight(self, w: Tensor) -> Quantized:
        return Quantized(binarize(w), w.abs().mean())

    def input(self, x: Tensor) -> Quantized:
        return Quantized(binarize(x, Clip()), self.scale(x))

    def input_code(self) -> SignCode:
        return SignCode()

    def scale(self, x: Tensor) -> Tensor:
        return torch.tensor(0.3)


class Measured(Scaled):
    def scale(self, x: Tensor) -> Tensor:
        return x.abs().mean()


class PerChannel(Scaled):
    def scale(self, x: Tensor) -> Tensor:
        return torch.ones(1, x.shape[1], *(1,) * (x.ndim - 2))


@pytest.mark.parametrize("behind", [nn.BatchNorm2d(4), nn.Identity()], ids=["norm", "nothing"])
def test_a_constant_scale_of_the_input_is_multiplied_in(behind: nn.Module) -> None:
    layers = [BinaryConv2d(8, 4, 3, bias=True, method=Scaled), behind, BinaryConv2d(4, 4, 1, method=Scaled)]
    original = nn.Sequential(*layers, nn.Flatten(), BinaryLinear(16, 3, method=Scaled)).eval()
    report = verify(pack(original, torch.zeros(1, 8, 4, 4)), original, torch.randn(5, 8, 4, 4))
    assert report.logits_identical


@pytest.mark.parametrize("method", [Measured, PerChannel])
def test_a_scale_that_no_code_names_is_refused(method: type[Quantizer]) -> None:
    with pytest.raises(PackError, match="gives an input scale that is no constant, and its input_code names none"):
        pack(nn.Sequential(BinaryConv2d(8, 4, 3, method=method)).eval(), torch.zeros(1, 8, 4, 4))
