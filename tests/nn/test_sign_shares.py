# SPDX-License-Identifier: Apache-2.0
"""What reaches low-bit layers is measured, a network whose signs never change is told, and nothing is left behind."""

from __future__ import annotations

import warnings
from functools import partial

import pytest
import torch
from torch import Tensor, nn

import bittern
from bittern.binary import BNN, DoReFa
from bittern.nn import BinaryConv2d, BinaryLinear
from bittern.nn._noise import noise_batches
from bittern.nn.sign_shares import ConstantInputWarning, SignShare, sign_shares, warn_of_constant_inputs


def relu_first() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        BinaryConv2d(8, 8, 3, method=BNN),
        nn.BatchNorm2d(8),
        nn.Flatten(),
        BinaryLinear(128, 5, method=BNN),
    )


def batches(example: Tensor) -> list[tuple[Tensor, ...]]:
    return [(example,), *noise_batches((example,))]


def test_shares_counted_by_hand() -> None:
    model = nn.Sequential(BinaryLinear(4, 2, method=BNN), nn.Hardtanh())
    x = torch.tensor([[1.0, -1.0, 0.0, 2.0], [3.0, -2.0, -1.0, 2.0]])  # signs ++ -- +- ++
    assert sign_shares(model, [(x,)]) == {"0": SignShare(5 / 8, -1.0, 1.0, 3, 4, 2, 8)}
    again = sign_shares(model, [(x[:1],), (x[1:],)])
    assert again == sign_shares(model, [(x,)])
    assert not again["0"].constant, "two samples say little"


def test_every_sign_behind_a_relu_is_plus_one() -> None:
    shares = sign_shares(relu_first(), batches(torch.zeros(1, 3, 8, 8)))
    assert list(shares) == ["3", "6"]
    assert shares["3"].plus == 1.0
    assert shares["3"].constant
    assert shares["6"].constant, "what follows a constant layer is constant, though its signs differ"
    assert 0.0 < shares["6"].plus < 1.0
    with pytest.warns(ConstantInputWarning, match=r"probe: the input of 2 of 2 .*'3' \(all \+1\), '6' .*Hardtanh"):
        warn_of_constant_inputs("probe", shares)


def test_a_network_that_looks_at_its_input_gets_no_warning() -> None:
    model = relu_first()
    model[2] = nn.Hardtanh()
    for example in (torch.zeros(1, 3, 8, 8), torch.ones(2, 3, 8, 8), torch.randn(1, 3, 8, 8) * 100):
        shares = sign_shares(model, batches(example))
        assert not any(share.constant for share in shares.values())
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warn_of_constant_inputs("probe", shares)


def test_levels_that_are_all_above_zero_may_still_change() -> None:
    model = nn.Sequential(nn.Sigmoid(), BinaryLinear(64, 2, method=partial(DoReFa, input_bits=4)))
    (share,) = sign_shares(model, batches(torch.zeros(1, 64))).values()
    assert share.plus > 0.9
    assert share.most > share.least
    assert not share.constant


class Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = BinaryLinear(64, 64, method=BNN)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(torch.relu(self.layer(x)))


def test_the_advice_fits_the_grid() -> None:
    """Levels have no sign; a constant one lies outside of 0 ... 1, or varies by less than a level."""
    model = nn.Sequential(nn.Linear(64, 64), BinaryLinear(64, 2, method=partial(DoReFa, input_bits=4)))
    for bias, named in ((-100.0, "'1' (all 0)"), (100.0, "'1' (all at one level)")):
        nn.init.constant_(model[0].bias, bias)
        shares = sign_shares(model, batches(torch.zeros(1, 64)))
        with pytest.warns(ConstantInputWarning) as caught:
            warn_of_constant_inputs("probe", shares)
        message = str(caught[0].message)
        assert named in message
        assert "spreads over 0 ... 1" in message
        assert "sign" not in message
    assert str(shares["1"]).startswith("100.0% are above 0, ")


def test_a_layer_is_measured_at_each_of_its_calls() -> None:
    shares = sign_shares(Twice(), batches(torch.zeros(2, 64)))
    assert {name: share.constant for name, share in shares.items()} == {"layer": False, "layer#2": True}


def test_nothing_is_left_behind() -> None:
    model = nn.Sequential(nn.ReLU(inplace=True), nn.BatchNorm1d(4), BinaryLinear(4, 2, method=BNN)).train()
    x = -torch.rand(5, 4)
    before, state = x.clone(), torch.get_rng_state()
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    sign_shares(model, batches(x))
    assert torch.equal(x, before)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(kept[name], value) for name, value in model.state_dict().items())
    assert model.training
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_noise_is_like_the_example_and_the_same_every_time() -> None:
    words, mask = torch.tensor([[3, 7, 5]]), torch.tensor([[True, False, True]])
    real = 100 + 2 * torch.randn(4, 3)
    first, second = list(noise_batches((real, words, mask))), list(noise_batches((real, words, mask)))
    assert [batch[0].shape[0] for batch in first] == [1, 3, 1, 3]
    for one, other in zip(first, second, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
        assert one[1].min() >= 3
        assert one[1].max() <= 7
        assert torch.equal(one[2], mask.expand_as(one[2]))
    assert abs(float(torch.cat([batch[0] for batch in first]).mean()) - 100) < 10
    zeros = torch.cat([batch[0] for batch in noise_batches((torch.zeros(2, 50),))])
    assert zeros.std() > 0.5


def test_the_warning_has_a_public_name() -> None:
    assert bittern.ConstantInputWarning is ConstantInputWarning
