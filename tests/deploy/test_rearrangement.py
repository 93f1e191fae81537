# SPDX-License-Identifier: Apache-2.0
"""Chains of moves as a reshape, slices, a permutation and a reshape: the same numbers, or none."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from bittern.deploy.rearrangement import places_of, rearrangement

Move = Callable[[Tensor], Tensor]
CHAINS: dict[str, tuple[tuple[int, ...], Move]] = {
    "as it is": ((3, 4), lambda x: x),
    "every second channel": ((6, 5, 4), lambda x: x[1::2]),
    "shuffled": ((6, 5, 4), lambda x: x.view(2, 3, 20).transpose(0, 1).reshape(6, 5, 4)),
    "one head of several": ((7, 24), lambda x: x.view(7, 3, 2, 4).permute(1, 2, 0, 3)[2]),
    "anchors of boxes": ((6, 3, 5), lambda x: x.permute(1, 2, 0).reshape(-1, 2)),
    "one number": ((4, 3), lambda x: x[2, 1]),
    "a window": ((5, 6, 7), lambda x: x[1:3, 2:5, 1:7]),
    "turned": ((2, 3, 4), lambda x: x.permute(2, 0, 1)),
}


@pytest.mark.parametrize("name", CHAINS)
def test_the_same_numbers(name: str) -> None:
    shape, move = CHAINS[name]
    places = move(places_of(shape))
    found = rearrangement(places, places_of(shape).numel())
    assert found is not None
    x = torch.randn(3, *shape)
    wanted = torch.stack([move(one) for one in x])
    assert torch.equal(found.applied(x), wanted)
    assert found.shape == tuple(places.shape)


@pytest.mark.parametrize(
    "move",
    [
        lambda x: x.flip(0),
        lambda x: x[:1].expand(3, 4),
        lambda x: x.flatten()[torch.tensor([0, 1, 3])],
        lambda x: x.flatten()[3:8].view(1, 5),
        lambda x: x.flatten()[:0],
    ],
)
def test_what_is_none(move: Move) -> None:
    """Backwards, one number twice, uneven steps, a stretch over the end of a row that the sizes do not cut, nothing."""
    places = move(places_of((3, 4)))
    found = rearrangement(places, 12)
    x = torch.randn(2, 3, 4)
    assert found is None or torch.equal(found.applied(x), torch.stack([move(one) for one in x]))
