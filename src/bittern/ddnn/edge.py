# SPDX-License-Identifier: Apache-2.0
"""The machine between devices and cloud: it asks all devices, has the local exit and the edge level, and goes on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Self

from torch import Tensor

from bittern.ddnn import frames
from bittern.ddnn.decide import Answers, Places, decide
from bittern.ddnn.frames import HEADER, MOST_EXAMPLES, MOST_REASON, SCORE, FrameError, Kind
from bittern.ddnn.packed import EdgePrograms, LocalPrograms, Shapes
from bittern.ddnn.wire import Link, Traffic, ask
from bittern.models.ddnn import CLOUD, device_exit


class Edge:
    """Asks devices and a cloud over sockets for the classes of examples.

    devices: addresses in the order of the network's devices, such as tcp://10.0.0.3:5555; cloud: that of the cloud.
    timeout: seconds that all devices together get for one question, and the cloud for its; whoever is away or late is
    missing in that answer, and asked again in the next.
    Raises: ImportError without pyzmq; ValueError for addresses or a timeout that do not fit.
    """

    def __init__(
        self,
        shapes: Shapes,
        local: LocalPrograms,
        edge: EdgePrograms | None,
        devices: Sequence[str],
        cloud: str,
        timeout: float = 2.0,
    ) -> None:
        if len(devices) != shapes.devices:
            raise ValueError(f"ddnn: the network has {shapes.devices} devices, so many addresses; got {len(devices)}")
        if not timeout > 0.0:
            raise ValueError(f"ddnn: timeout must be seconds above 0; got {timeout}")
        self.shapes, self.local, self.edge = shapes, local, edge
        self.timeout = timeout
        self._request = 0
        self.links: list[Link] = []
        reason = HEADER.size + MOST_REASON
        said = HEADER.size + MOST_EXAMPLES * shapes.classes * SCORE.itemsize
        most = max(said, HEADER.size + MOST_EXAMPLES * frames.bytes_of_signs(shapes.features), reason)
        names = [(device_exit(i), address, most) for i, address in enumerate(devices)]
        try:
            for name, address, limit in (*names, (CLOUD, cloud, max(said, reason))):
                self.links.append(Link(name, address, limit))
        except ValueError:
            self.close()
            raise
        self.refusals: dict[str, str] = {}
        """Why a place's last answer could not be used, by its name."""

    def __call__(self, numbers: Sequence[int], thresholds: Sequence[float]) -> Answers:
        """Classes of the examples of these numbers, which every device sees at the same time; up to 4,096.

        thresholds: of the local exit, and of the edge level where the network has one, in [0, 1].
        Raises: ValueError; NobodyThereError where no device answers.
        """
        self._request = (self._request + 1) % 2**32
        self.refusals.clear()
        return decide(_There(self, numbers, self._request), thresholds)

    @property
    def traffic(self) -> dict[str, Traffic]:
        """Bytes to and from each place since the start, by name."""
        return {link.name: link.traffic for link in self.links}

    def close(self) -> None:
        """Leave all places; what was not sent yet is dropped."""
        for link in self.links:
            link.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class _There(Places):
    """One batch, on other machines."""

    def __init__(self, owner: Edge, numbers: Sequence[int], request: int) -> None:
        self.has_edge = owner.edge is not None
        self._owner, self._numbers, self._request = owner, numbers, request

    def scores(self) -> list[Tensor | None]:
        count, classes = len(self._numbers), self._owner.shapes.classes
        message = frames.encode(Kind.ASK_SCORES, self._request, count, frames.indices(self._numbers))
        return self._asked(
            self._owner.links[:-1], message, lambda frame: frames.read_scores(frame, Kind.SCORES, count, classes)
        )

    def local(self, scores: Sequence[Tensor | None]) -> Tensor:
        return self._owner.local(scores)

    def features(self, rows: Tensor, away: Sequence[bool]) -> list[Tensor | None]:
        shape = self._owner.shapes.features
        message = frames.encode(Kind.ASK_SIGNS, self._request, len(rows), frames.indices(rows.tolist()))
        size = len(rows) * frames.bytes_of_signs(shape)
        links = [None if gone else link for link, gone in zip(self._owner.links[:-1], away, strict=True)]
        return self._asked(
            links,
            message,
            lambda frame: frames.read_signs(frames.expect(frame, Kind.SIGNS, size), len(rows), shape),
        )

    def edge(self, features: Sequence[Tensor | None]) -> tuple[Tensor, Tensor]:
        assert self._owner.edge is not None
        return self._owner.edge(features)

    def cloud(self, features: Sequence[Tensor | None]) -> Tensor | None:
        (count,) = {len(part) for part in features if part is not None}
        classes = self._owner.shapes.classes
        message = frames.encode(Kind.ASK_CLOUD, self._request, count, frames.parts(features))
        return self._asked(
            self._owner.links[-1:], message, lambda frame: frames.read_scores(frame, Kind.ANSWERS, count, classes)
        )[0]

    def _asked(
        self, links: Sequence[Link | None], message: bytes, read: Callable[[frames.Frame], Tensor]
    ) -> list[Tensor | None]:
        """What each place answered; None for one that is away, late, or whose frame cannot be used."""
        found: list[Tensor | None] = []
        replies = ask(links, message, self._request, self._owner.timeout)
        for link, frame in zip(links, replies, strict=True):
            try:
                found.append(None if frame is None else read(frame))
            except FrameError as error:
                assert link is not None
                link.traffic.refused += 1
                self._owner.refusals[link.name] = str(error)
                found.append(None)
        return found
