# SPDX-License-Identifier: Apache-2.0
"""Every method on every small network: packs, equals the training graph bit for bit, and is the same when loaded."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from _bit_networks import randomize_norm
from _tolerance import assert_exact
from bittern import binary, models
from bittern.deploy import pack, verify
from bittern.deploy.packed import from_bytes
from bittern.quantizer import Quantizer

# untrained and small: a sign behind a ReLU, or one of few inputs, may be the same in every sample
pytestmark = pytest.mark.filterwarnings("ignore::bittern.ConstantInputWarning")

NETWORKS: dict[str, tuple[Callable[..., nn.Module], Callable[[], Tensor]]] = {
    "vit_small": (partial(models.vit_small, input_size=8, width=16, heads=2, depth=1), lambda: torch.randn(3, 3, 8, 8)),
    "mixer_small": (partial(models.mixer_small, input_size=8, width=16, depth=1), lambda: torch.randn(3, 3, 8, 8)),
    "text_encoder": (
        partial(models.text_encoder, words=20, context=6, width=16, heads=2, blocks=1),
        lambda: torch.randint(0, 20, (3, 6)),
    ),
    "ds_cnn": (partial(models.ds_cnn, input_size=(9, 7), width=8, blocks=2), lambda: torch.randn(3, 1, 9, 7)),
    "series_cnn": (partial(models.series_cnn, input_size=13, width=8, blocks=2), lambda: torch.randn(3, 3, 13)),
    "point_net": (partial(models.point_net, input_size=9, widths=(8, 8, 16)), lambda: torch.randn(3, 2, 9)),
    "cell_detector": (partial(models.cell_detector, input_size=(16, 24), width=4), lambda: torch.randn(3, 3, 16, 24)),
}
"""A network, and what draws its inputs."""


def pairs() -> list[object]:
    """All; in every run one of each network by turns, from XNOR-Net on, and the others are `slow`."""
    cases = []
    for turn, network in enumerate(NETWORKS):
        for place, method in enumerate(binary.COMPARED):
            quick = place == (2 * turn + binary.COMPARED.index(binary.XNORNet)) % len(binary.COMPARED)
            marks = () if quick else (pytest.mark.slow,)
            cases.append(pytest.param(network, method, id=f"{network}-{method.__name__}", marks=marks))
    return cases


@pytest.mark.parametrize(("network", "method"), pairs())
def test_packs_verifies_and_reloads(network: str, method: type[Quantizer]) -> None:
    torch.manual_seed(0)
    build, draw = NETWORKS[network]
    model, x = build(method), draw()
    model(x)  # makes the factors of XNOR-Net++
    for module in model.modules():
        if isinstance(module, (nn.BatchNorm1d, nn.BatchNorm2d)):
            randomize_norm(module)
    model.eval()
    packed = pack(model, x[:2])
    report = verify(packed, model, x)
    assert report.exact, str(report)
    assert report.logits_identical, str(report)
    again = from_bytes(packed.to_bytes())
    assert_exact(again(x).contiguous(), packed(x).contiguous())
    assert again.to_bytes() == packed.to_bytes()
