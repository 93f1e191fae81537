# SPDX-License-Identifier: Apache-2.0
"""A trained DDNN as packed programs, one for each part that a machine runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from bittern.ddnn.decide import Answers, Places, decide
from bittern.deploy import Packed, pack
from bittern.models.aggregation import NO_SCORE, NO_SIGN, Aggregation
from bittern.models.ddnn import CLOUD, DDNN, EDGE, LOCAL, LevelPart, device_exit
from bittern.nn._probe import eval_mode


@dataclass(frozen=True)
class Shapes:
    """What the parts of a network send each other."""

    devices: int
    classes: int
    view: tuple[int, ...]
    """Channels, height and width of what a device sees."""
    features: tuple[int, ...]
    """Of the signs that a device sends."""
    edge_features: tuple[int, ...] | None
    """Of those that an edge sends; None without one."""


@dataclass(frozen=True)
class DevicePrograms:
    """A device: views [batch, *view] -> (signs [batch, *features], scores [batch, classes])."""

    block: Packed
    head: Packed

    def __call__(self, views: Tensor) -> tuple[Tensor, Tensor]:
        signs = _tensor(self.block(views))
        return signs, _tensor(self.head(signs))


@dataclass(frozen=True)
class EdgePrograms:
    """An edge level: the devices' signs -> (its own signs, scores)."""

    aggregation: Aggregation
    block: Packed
    head: Packed

    def __call__(self, features: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
        signs = _tensor(self.block(self.aggregation(features, NO_SIGN)))
        return signs, _tensor(self.head(signs))


@dataclass(frozen=True)
class LocalPrograms:
    """The local exit: the devices' scores -> scores. head: of CC; the other aggregations need none."""

    aggregation: Aggregation
    head: Packed | None

    def __call__(self, scores: Sequence[Tensor | None]) -> Tensor:
        gathered = self.aggregation(scores, NO_SCORE)
        return gathered if self.head is None else _tensor(self.head(gathered))


@dataclass(frozen=True)
class CloudPrograms:
    """The cloud: signs of the devices, or of the edge alone -> scores."""

    aggregation: Aggregation
    program: Packed

    def __call__(self, features: Sequence[Tensor | None]) -> Tensor:
        return _tensor(self.program(self.aggregation(features, NO_SIGN)))


@dataclass(frozen=True)
class PackedDDNN:
    """All parts of a DDNN. Call it with the views of a batch; each part runs for those examples alone that reach it."""

    shapes: Shapes
    devices: tuple[DevicePrograms, ...]
    local: LocalPrograms
    edge: EdgePrograms | None
    cloud: CloudPrograms
    runs: Counter[str] = field(default_factory=Counter, compare=False)
    """How many examples each part has taken so far, by name: "device 0", ..., "local", "edge", "cloud"."""

    def __call__(self, views: Sequence[Tensor | None], thresholds: Sequence[float]) -> Answers:
        """views: one of each device [batch, channels, height, width], None for one that is away.

        thresholds: of the local exit, and of the edge where there is one, in [0, 1].
        Raises: ValueError; NobodyThereError where all are away.
        """
        return decide(_Here(self, views), thresholds)

    def exits(self, views: Sequence[Tensor | None]) -> dict[str, Tensor]:
        """The scores of every exit for all examples, by name, as the trained model gives them."""
        here = _Here(self, views)
        scores = here.scores()
        found = {device_exit(index): said for index, said in enumerate(scores) if said is not None}
        found[LOCAL] = here.local(scores)
        features = here.features(torch.arange(len(found[LOCAL])), [])
        if here.has_edge:
            signs, found[EDGE] = here.edge(features)
            features = [signs]
        found[CLOUD] = here.cloud(features)
        return found


class _Here(Places):
    """All parts in this process."""

    def __init__(self, network: PackedDDNN, views: Sequence[Tensor | None]) -> None:
        if len(views) != network.shapes.devices:
            raise ValueError(
                f"ddnn: needs {network.shapes.devices} views, None where a device is away; got {len(views)}"
            )
        self.has_edge = network.edge is not None
        self._network = network
        self._views = views
        self._signs: list[Tensor | None] = [None] * len(views)

    def scores(self) -> list[Tensor | None]:
        said: list[Tensor | None] = [None] * len(self._views)
        for index, (view, programs) in enumerate(zip(self._views, self._network.devices, strict=True)):
            if view is not None:
                self._network.runs[device_exit(index)] += len(view)
                self._signs[index], said[index] = programs(view)
        return said

    def local(self, scores: Sequence[Tensor | None]) -> Tensor:
        found = self._network.local(scores)
        self._network.runs[LOCAL] += len(found)
        return found

    def features(self, rows: Tensor, away: Sequence[bool]) -> list[Tensor | None]:
        return [None if signs is None else signs[rows] for signs in self._signs]

    def edge(self, features: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
        assert self._network.edge is not None
        signs, scores = self._network.edge(features)
        self._network.runs[EDGE] += len(signs)
        return signs, scores

    def cloud(self, features: Sequence[Tensor | None]) -> Tensor:
        scores = self._network.cloud(features)
        self._network.runs[CLOUD] += len(scores)
        return scores


def pack_ddnn(model: DDNN, views: Sequence[Tensor]) -> PackedDDNN:
    """Pack every part of a trained network by itself; each is verified against the model, as `bittern.pack` does.

    views: a batch of examples [batch, channels, height, width] of every device, best real ones.
    Raises: TypeError, ValueError; PackError naming what has no packed form.
    """
    if not isinstance(model, DDNN):
        raise TypeError(f"pack_ddnn: packs a DDNN of bittern.models; got {type(model).__name__}")
    if len(views) != model.views:
        raise ValueError(f"pack_ddnn: needs a batch of views of each of {model.views} devices; got {len(views)}")
    with eval_mode(model), torch.no_grad():
        answers = [model.device(index)(view) for index, view in enumerate(views)]
        signs, scores = [seen for seen, _ in answers], [said for _, said in answers]
        own = [model.device(index) for index in range(len(model.parts))]
        packed = [DevicePrograms(pack(p.block, views[i]), pack(p.head, signs[i])) for i, p in enumerate(own)]
        edge, sent = None if model.edge is None else _packed_edge(model.edge, signs), signs
        if model.edge is not None:
            sent = [model.edge(signs)[0]]
        local, cloud = model.local, model.cloud
        head = None if local.head is None else pack(local.head, local.aggregation(scores, NO_SCORE))
        top = pack(nn.Sequential(cloud.block, cloud.head), cloud.aggregation(sent, NO_SIGN))
    sizes = tuple(signs[0].shape[1:])
    edge_sizes = None if edge is None else tuple(sent[0].shape[1:])
    return PackedDDNN(
        Shapes(model.views, scores[0].shape[1], model.input_shape, sizes, edge_sizes),
        tuple(packed if len(packed) == model.views else packed * model.views),
        LocalPrograms(local.aggregation, head),
        edge,
        CloudPrograms(cloud.aggregation, top),
    )


def _packed_edge(edge: LevelPart, signs: Sequence[Tensor]) -> EdgePrograms:
    gathered = edge.aggregation(signs, NO_SIGN)
    return EdgePrograms(edge.aggregation, pack(edge.block, gathered), pack(edge.head, edge.block(gathered)))


def _tensor(answer: object) -> Tensor:
    assert isinstance(answer, Tensor)
    return answer
