# SPDX-License-Identifier: Apache-2.0
"""Any network of this package without its head: what detectors, distillation and transfer take."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from bittern.nn._probe import eval_mode


@runtime_checkable
class HasFeatureMaps(Protocol):
    """What every network of `bittern.models` is, beside a function to logits.

    feature_maps: x -> a tensor for each size of the image, from fine to coarse, or for each block where all have one
    size (tokens, points, perceptrons). The last is what the head sees, in front of a mean over the image.
    """

    def feature_maps(self, x: Tensor, /) -> tuple[Tensor, ...]: ...


class Backbone(nn.Module):
    """x -> the feature maps of a network, as a module that trains, packs and exports like any other.

    model: a network of `bittern.models`, or one with a method `feature_maps`; shared, not copied. example: an input,
    whose maps tell `shapes`. maps: which maps, by their place from 0 (negative: from the last); None: all.

    Raises: TypeError for a model without feature maps; ValueError for places that it has no map at.
    """

    def __init__(self, model: nn.Module, example: Tensor, *, maps: Sequence[int] | None = None) -> None:
        super().__init__()
        if not isinstance(model, HasFeatureMaps):
            raise TypeError(
                f"Backbone: model must have a method feature_maps(x); got {type(model).__name__}; take a network of "
                "bittern.models, or give yours one"
            )
        self.model = model
        with eval_mode(model), torch.no_grad():
            found = model.feature_maps(example)
        places = range(len(found)) if maps is None else maps
        if not places or any(not -len(found) <= place < len(found) for place in places):
            raise ValueError(f"Backbone: maps must be places of the {len(found)} maps; got {list(places)}")
        self.maps = tuple(place % len(found) for place in places)
        self.shapes = tuple(tuple(found[place].shape[1:]) for place in self.maps)
        """Of each map, without the batch: (channels, height, width) of images, (places, width) of tokens."""

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        assert isinstance(self.model, HasFeatureMaps)
        found = self.model.feature_maps(x)
        return tuple(found[place] for place in self.maps)

    def extra_repr(self) -> str:
        return f"maps={self.maps}, shapes={self.shapes}"
