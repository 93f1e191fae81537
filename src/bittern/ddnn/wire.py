# SPDX-License-Identifier: Apache-2.0
"""Sockets of ZeroMQ: one that serves, and one to each place that is asked. All bytes are counted.

A message arrives whole or not at all, so a machine that goes away in the middle of one leaves nothing behind; one that
is larger than its reader allows ends its connection before any memory is taken. Nothing here is encrypted, and nobody
shows who they are: listen on this machine alone, or within a network or tunnel that is yours.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from bittern.ddnn.costs import on_the_wire
from bittern.ddnn.frames import Frame, FrameError, decode

if TYPE_CHECKING:
    from threading import Event

WAITING = 8
"""Messages that a socket keeps for a side that does not read, and of one that is not read."""
LOOK_MS = 100
"""How often a server looks whether it shall stop."""
AGAIN_MS, AGAIN_AT_MOST_MS = 50, 1000
"""How soon a lost connection is tried again."""


@dataclass
class Traffic:
    """Bytes of messages as they lie in TCP streams, ZeroMQ's framing included; the set-up of a connection is not."""

    sent: int = 0
    received: int = 0
    refused: int = 0
    """Messages that were not understood, or that nobody waited for any more."""


def zmq() -> Any:
    """The package pyzmq. Raises: ImportError saying how to install it."""
    try:
        import zmq as package
    except ImportError as error:
        raise ImportError("ddnn: the package 'pyzmq' is missing; pip install 'bittern[ddnn]'") from error
    return package


def _socket(kind: str, most: int) -> Any:
    package = zmq()
    socket = package.Context.instance().socket(getattr(package, kind))
    options = {
        "LINGER": 0,
        "MAXMSGSIZE": most,
        "SNDHWM": WAITING,
        "RCVHWM": WAITING,
        "TCP_KEEPALIVE": 1,
        "IMMEDIATE": 1,  # a message for a place that is away must not wait for it to come back
        "RECONNECT_IVL": AGAIN_MS,
        "RECONNECT_IVL_MAX": AGAIN_AT_MOST_MS,
    }
    for name, value in options.items():
        socket.setsockopt(getattr(package, name), value)
    return socket


class _Closing:
    """A socket that closes with its owner, and drops what was not sent."""

    _socket: Any

    def close(self) -> None:
        self._socket.close(0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Server(_Closing):
    """Answers messages one by one.

    address: as ZeroMQ writes it, tcp://127.0.0.1:5555; port 0 takes a free one (`address` says which). most:
    bytes of the largest message that is read. Raises: ImportError; OSError where it cannot listen.
    """

    def __init__(self, address: str, most: int) -> None:
        self._zmq = zmq()
        self._socket = _socket("ROUTER", most)
        self.traffic = Traffic()
        try:
            self._socket.bind(address)
        except self._zmq.ZMQError as error:
            self._socket.close(0)
            raise OSError(f"ddnn: cannot listen at {address}: {error}") from error
        self.address: str = self._socket.getsockopt_string(self._zmq.LAST_ENDPOINT)

    def serve(self, answer: Callable[[bytes, bytes], bytes], stop: Event | None = None) -> None:
        """Until `stop` is set: answer(who, message) -> message. who: bytes that name a connection."""
        while stop is None or not stop.is_set():
            if not self._socket.poll(LOOK_MS):
                continue
            who, *messages = self._socket.recv_multipart()
            self.traffic.received += sum(on_the_wire(len(message)) for message in messages)
            if len(messages) != 1:
                self.traffic.refused += 1
                continue
            reply = answer(who, messages[0])
            try:
                self._socket.send_multipart([who, reply], self._zmq.NOBLOCK)
                self.traffic.sent += on_the_wire(len(reply))
            except self._zmq.ZMQError:
                self.traffic.refused += 1  # who asked does not read


class Link(_Closing):
    """The way to one place. most: bytes of the largest message that is read. Raises: ImportError; ValueError."""

    def __init__(self, name: str, address: str, most: int) -> None:
        self.name = name
        self.traffic = Traffic()
        self.away = False
        """Whether it could not be reached when it was asked last."""
        self._zmq = zmq()
        self._socket = _socket("DEALER", most)
        try:
            self._socket.connect(address)
        except self._zmq.ZMQError as error:
            self._socket.close(0)
            raise ValueError(f"ddnn: {name} has no address {address!r}: {error}; write tcp://HOST:PORT") from error

    def send(self, message: bytes) -> bool:
        """Whether it is on its way; False while the place is away."""
        try:
            self._socket.send(message, self._zmq.NOBLOCK)
        except self._zmq.ZMQError:
            return False
        self.traffic.sent += on_the_wire(len(message))
        return True

    def receive(self, request: int) -> Frame | None:
        """The frame with this request's number, if it is here; what is no frame or answers another is dropped."""
        while True:
            try:
                messages = self._socket.recv_multipart(self._zmq.NOBLOCK)
            except self._zmq.ZMQError:
                return None
            self.traffic.received += sum(on_the_wire(len(message)) for message in messages)
            try:
                frame = decode(messages[0])
            except FrameError:
                frame = None
            if len(messages) == 1 and frame is not None and frame.request == request:
                return frame
            self.traffic.refused += 1

    def ready(self, *, to_send: bool) -> bool:
        """Whether it can be sent to, or has something to read, now."""
        return bool(self._socket.poll(0, self._zmq.POLLOUT if to_send else self._zmq.POLLIN))

    def watch(self, poller: Any, *, to_send: bool) -> None:
        """Wake this poller when that is so."""
        poller.register(self._socket, self._zmq.POLLOUT if to_send else self._zmq.POLLIN)


def ask(links: Sequence[Link | None], message: bytes, request: int, seconds: float) -> list[Frame | None]:
    """Ask several places at once, and wait for all of them together; None for one that is away or late.

    links: None for a place that is not asked. One that cannot be reached gets these seconds to come, once: while it
    stays away, later questions do not wait for it.
    """
    end = time.monotonic() + seconds
    found: list[Frame | None] = [None] * len(links)
    unsent = {place: link for place, link in enumerate(links) if link is not None}
    waited: dict[int, Link] = {}
    while True:
        for place, link in list(unsent.items()):
            if link.ready(to_send=True) and link.send(message):
                waited[place] = unsent.pop(place)
                link.away = False
            elif link.away:
                del unsent[place]
        for place, link in list(waited.items()):
            found[place] = link.receive(request)
            if found[place] is not None:
                del waited[place]
        left = end - time.monotonic()
        if left <= 0 or not (unsent or waited):
            break
        poller = zmq().Poller()
        for link in unsent.values():
            link.watch(poller, to_send=True)
        for link in waited.values():
            link.watch(poller, to_send=False)
        poller.poll(1000 * left)
    for link in unsent.values():
        link.away = True
    return found
