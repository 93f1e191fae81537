# SPDX-License-Identifier: Apache-2.0
"""DDNN: shapes, aggregations by hand, and gradients that reach the devices with every method."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bittern import binary
from bittern.binary import BNN
from bittern.models import AveragePooling, Concatenation, Level, MaxPooling, ddnn
from bittern.quantizer import Quantizer

ONE, OTHER = torch.tensor([[1.0, -1.0]]), torch.tensor([[-3.0, 5.0]])


def test_aggregations_by_hand() -> None:
    assert MaxPooling()([ONE, OTHER], 0.0).tolist() == [[1.0, 5.0]]
    assert AveragePooling()([ONE, OTHER], 0.0).tolist() == [[-1.0, 2.0]]
    assert Concatenation()([ONE, OTHER], 0.0).tolist() == [[1.0, -1.0, -3.0, 5.0]]
    for pooling in (MaxPooling(), AveragePooling()):
        assert pooling([None, OTHER, None], 0.0).tolist() == OTHER.tolist(), "over those that are there"
        assert pooling.channels(5, 3) == 5
    assert Concatenation()([None, ONE], -1.0).tolist() == [[-1.0, -1.0, 1.0, -1.0]]
    assert Concatenation().channels(5, 3) == 15
    with pytest.raises(ValueError, match="all are missing"):
        Concatenation()([None, None], 0.0)


def test_exits_and_what_is_sent() -> None:
    model = ddnn(BNN, 4, 2, views=3, input_size=(9, 6), edge=Level((5,)), cloud=Level((6, 6)), local=Concatenation())
    views = [torch.randn(5, 2, 9, 6) for _ in range(3)]
    exits = model(*views)
    assert list(exits) == ["device 0", "device 1", "device 2", "local", "edge", "cloud"]
    assert {tuple(scores.shape) for scores in exits.values()} == {(5, 4)}
    signs, _ = model.device(1)(views[1])
    assert signs.shape == (5, 8, 3, 2), "9 x 6 is halved twice, rounding up"
    assert set(signs.unique().tolist()) == {-1.0, 1.0}
    assert list(model.eval()(None, views[1], None)) == ["device 1", "local", "edge", "cloud"]
    with pytest.raises(ValueError, match="needs 3 views"):
        model(*views[:2])


@pytest.mark.parametrize("method", [None, *binary.ALL], ids=lambda m: m.__name__ if m else "float")
def test_every_exit_teaches_the_devices(method: type[Quantizer] | None) -> None:
    """What reads signs has a derivative there, whatever estimator its method has for real inputs."""
    torch.manual_seed(0)
    model = ddnn(method, 3, views=2, input_size=(5, 4), device_widths=(4,), cloud=Level((4,)), shared=True)
    views = [torch.randn(6, 1, 5, 4) for _ in range(2)]
    first = model.device(0).block[0].weight
    for name, scores in model(*views).items():
        (gradient,) = torch.autograd.grad(scores.square().sum(), first, retain_graph=True)
        assert gradient.abs().sum() > 0, name


def test_devices_may_share_their_weights() -> None:
    one, each = (ddnn(BNN, views=3, input_size=(5, 4), shared=shared) for shared in (True, False))
    assert one.device(0) is one.device(2)
    assert each.device(0) is not each.device(2)
    assert not any(name.startswith("parts.1") for name in one.state_dict())


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"views": 0}, "views"),
        ({"input_size": (0, 4)}, "height"),
        ({"input_size": 5}, "input_size"),
        ({"device_widths": ()}, "a block each"),
        ({"cloud": Level(())}, "a block each"),
        ({"device_widths": (4, 0)}, "width 1"),
        ({"edge": Level(), "cloud": Level(aggregation=MaxPooling())}, "nothing to aggregate"),
        ({"real_inputs": "BWN"}, "ddnn"),
    ],
)
def test_what_does_not_fit_is_refused(wrong: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"views": 2, "input_size": (5, 4)} | wrong
    with pytest.raises((TypeError, ValueError), match=message):
        ddnn(BNN, **arguments)  # type: ignore[arg-type]


def test_sign_of_zero_is_sent_as_plus_one() -> None:
    from bittern.models.ddnn import BinaryStep

    x = torch.tensor([0.0, -0.0, 1.0, -1.0, 1.5, -1.5], requires_grad=True)
    sent: Tensor = BinaryStep()(x)
    assert sent.tolist() == [1.0, 1.0, 1.0, -1.0, 1.0, -1.0]
    sent.sum().backward()  # type: ignore[no-untyped-call]
    assert x.grad is not None
    assert x.grad.tolist() == [1.0, 1.0, 1.0, 1.0, 0.0, 0.0]
