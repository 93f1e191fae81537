# SPDX-License-Identifier: Apache-2.0
"""The device and the cloud as servers: what each answers to a message, whoever carries it."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence
from threading import Event

import torch
from torch import Tensor

from bittern.ddnn import frames
from bittern.ddnn.frames import HEADER, INDEX, MOST_EXAMPLES, FrameError, Kind
from bittern.ddnn.packed import CloudPrograms, DevicePrograms, Shapes
from bittern.ddnn.wire import Server

Look = Callable[[Sequence[int]], Tensor]
"""What a device's camera saw of examples of these numbers: float32 [count, channels, height, width]."""
MOST_ASKING = 8
"""Connections whose last batch a device keeps the signs of; the one that was silent longest is forgotten first."""


class Device:
    """Answers for one device: it looks at examples, says their scores, and sends signs of those that are asked for.

    look: gives the views of examples by number; whatever ValueError or IndexError it raises is told to who asks.
    """

    def __init__(self, programs: DevicePrograms, shapes: Shapes, look: Look) -> None:
        self._programs, self._shapes, self._look = programs, shapes, look
        self._kept: OrderedDict[bytes, tuple[int, Tensor]] = OrderedDict()
        self.examples = 0
        """How many its programs have run for."""

    def answer(self, who: bytes, message: bytes) -> bytes:
        """The reply to one message; a refusal with the reason for one that cannot be answered."""
        request = 0
        try:
            frame = frames.decode(message)
            request = frame.request
            if frame.kind is Kind.ASK_SIGNS:
                return self._signs(who, frame)
            return self._scores(who, frame)
        except (FrameError, ValueError, IndexError) as error:
            return frames.refusal(request, str(error))

    def _scores(self, who: bytes, frame: frames.Frame) -> bytes:
        numbers = frames.read_indices(frame, Kind.ASK_SCORES)
        views = self._look(numbers)
        if views.shape != (len(numbers), *self._shapes.view):
            raise ValueError(f"ddnn: views must be {[len(numbers), *self._shapes.view]}; got {list(views.shape)}")
        signs, scores = self._programs(views)
        self.examples += len(numbers)
        self._kept[who] = frame.request, signs
        self._kept.move_to_end(who)
        if len(self._kept) > MOST_ASKING:
            self._kept.popitem(last=False)
        return frames.encode(Kind.SCORES, frame.request, frame.examples, frames.scores(scores))

    def _signs(self, who: bytes, frame: frames.Frame) -> bytes:
        request, signs = self._kept.get(who, (None, torch.empty(0)))
        if request != frame.request:
            raise FrameError("ddnn: the signs of this request are not here, or no more; ask for its scores first")
        rows = frames.read_rows(frame, len(signs))
        return frames.encode(Kind.SIGNS, frame.request, frame.examples, frames.signs(signs[rows]))


class Cloud:
    """Answers for the cloud: signs of the devices, or of the edge -> scores."""

    def __init__(self, programs: CloudPrograms, shapes: Shapes) -> None:
        self._programs = programs
        self._parts, self._each = cloud_hears(shapes)
        self.examples = 0
        """How many its program has run for."""

    def answer(self, who: bytes, message: bytes) -> bytes:
        """The reply to one message; a refusal with the reason for one that cannot be answered."""
        request = 0
        try:
            frame = frames.decode(message)
            request = frame.request
            if frame.kind is not Kind.ASK_CLOUD:
                raise FrameError(f"ddnn: a cloud answers {Kind.ASK_CLOUD.name}; got {frame.kind.name}")
            scores = self._programs(frames.read_parts(frame, self._parts, self._each))
            self.examples += frame.examples
            return frames.encode(Kind.ANSWERS, request, frame.examples, frames.scores(scores))
        except FrameError as error:
            return frames.refusal(request, str(error))


def cloud_hears(shapes: Shapes) -> tuple[int, tuple[int, ...]]:
    """(how many parts, the shape of the signs of each)."""
    return (shapes.devices, shapes.features) if shapes.edge_features is None else (1, shapes.edge_features)


def device_server(address: str) -> Server:
    """A server for a device, which reads lists of numbers at most. Raises: ImportError; OSError."""
    return Server(address, HEADER.size + MOST_EXAMPLES * INDEX.itemsize)


def cloud_server(address: str, shapes: Shapes) -> Server:
    """A server for a cloud, which reads all signs of a batch at most. Raises: ImportError; OSError."""
    parts, each = cloud_hears(shapes)
    flags = math.ceil(parts / frames.BITS)
    return Server(address, HEADER.size + flags + MOST_EXAMPLES * parts * frames.bytes_of_signs(each))


def serve(server: Server, place: Device | Cloud, stop: Event | None = None) -> None:
    """Answer until `stop` is set, or the process is interrupted, on one thread."""
    server.serve(place.answer, stop)
