# SPDX-License-Identifier: Apache-2.0
"""Devices, edge and cloud over real sockets: who is away, who lies, who stops in the middle, and what it costs."""

from __future__ import annotations

import json
import signal
import socket
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from _command import start
from _ddnn import EXAMPLES, Case
from bittern.cli import main
from bittern.ddnn import (
    Cloud,
    Device,
    Edge,
    NobodyThereError,
    Server,
    cloud_server,
    device_bytes,
    device_server,
    save_ddnn,
    serve,
)
from bittern.ddnn.wire import Link, ask

HERE = "tcp://127.0.0.1:0"
SOON, PATIENT = 0.3, 20.0
"""Seconds until somebody is missing: where somebody is, and where nobody may be."""
NOBODY = "tcp://127.0.0.1:9"


class Town:
    """Servers on threads of this process."""

    def __init__(self) -> None:
        self._stop = threading.Event()
        self._running: list[tuple[threading.Thread, Server]] = []

    def open(self, server: Server, place: Device | Cloud) -> str:
        thread = threading.Thread(target=serve, args=(server, place, self._stop))
        thread.start()
        self._running.append((thread, server))
        return server.address

    def received(self, address: str) -> int:
        """Bytes of messages that this server has read."""
        (found,) = [server.traffic.received for _, server in self._running if server.address == address]
        return found

    def device(self, case: Case, index: int) -> str:
        def look(numbers: list[int]) -> torch.Tensor:
            return case.views[index][list(numbers)]

        return self.open(device_server(HERE), Device(case.packed.devices[index], case.packed.shapes, look))

    def cloud(self, case: Case) -> str:
        return self.open(cloud_server(HERE, case.packed.shapes), Cloud(case.packed.cloud, case.packed.shapes))

    def close(self) -> None:
        self._stop.set()
        for thread, server in self._running:
            thread.join()
            server.close()


@pytest.fixture
def town() -> Iterator[Town]:
    opened = Town()
    yield opened
    opened.close()


def _edge(case: Case, devices: list[str], cloud: str, timeout: float = PATIENT) -> Edge:
    return Edge(case.packed.shapes, case.packed.local, case.packed.edge, devices, cloud, timeout)


@pytest.mark.parametrize("name", ["plain", "with_edge"])
def test_the_answers_are_those_of_one_process(name: str, request: pytest.FixtureRequest, town: Town) -> None:
    case: Case = request.getfixturevalue(name)
    thresholds = [0.6] if case.packed.edge is None else [0.6, 0.5]
    want = case.packed(case.views, thresholds)
    going_on = sum(exit != "local" for exit in want.exits)
    assert 0 < going_on < EXAMPLES
    with _edge(case, [town.device(case, 0), town.device(case, 1)], town.cloud(case)) as edge:
        found = edge(range(EXAMPLES), thresholds)
        assert torch.equal(found.scores, want.scores)
        assert (found.exits, found.missing) == (want.exits, ())
        for index in range(2):
            assert edge.traffic[f"device {index}"].received == device_bytes(case.packed.shapes, EXAMPLES, going_on)
        quiet = edge.traffic["cloud"].sent
        assert set(edge(range(5), [1.0, 1.0][: len(thresholds)]).exits) == {"local"}
        assert edge.traffic["cloud"].sent == quiet, "nothing goes to a cloud that has nothing to do"


def test_bytes_are_those_of_the_stream(plain: Case, town: Town) -> None:
    """A proxy between edge and device counts what passes: the second question costs what the counters say."""
    passed = {"in": 0, "out": 0}
    device = town.device(plain, 0)

    def pump(source: socket.socket, sink: socket.socket, way: str) -> None:
        while data := source.recv(65536):
            passed[way] += len(data)
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)

    with socket.create_server(("127.0.0.1", 0)) as listening:

        def proxy() -> None:
            there, _ = listening.accept()
            with there, socket.create_connection(("127.0.0.1", int(device.rpartition(":")[2]))) as behind:
                other = threading.Thread(target=pump, args=(there, behind, "in"))
                other.start()
                pump(behind, there, "out")
                other.join()

        running = threading.Thread(target=proxy)
        running.start()
        with _edge(plain, [f"tcp://127.0.0.1:{listening.getsockname()[1]}", device], town.cloud(plain)) as edge:
            counts = []
            for _ in range(2):
                edge(range(EXAMPLES), [0.0])
                traffic = edge.traffic["device 0"]
                counts.append((passed["in"] - traffic.sent, passed["out"] - traffic.received))
        running.join()
    assert counts[0] == counts[1], "all but the set-up of the connection is counted"
    assert 0 < counts[0][0] < 256


def test_places_that_are_away_are_missing(plain: Case, town: Town) -> None:
    want = plain.packed([None, plain.views[1]], [0.6])
    with _edge(plain, [NOBODY, town.device(plain, 1)], town.cloud(plain), SOON) as edge:
        edge.timeout = SOON
        found = edge(range(EXAMPLES), [0.6])
        assert found.missing[0] == "device 0"
        edge.timeout = PATIENT  # device 0 was away and is not waited for again
        found = edge(range(EXAMPLES), [0.6])
        assert found.missing == ("device 0",)
        assert torch.equal(found.scores, want.scores)
    with _edge(plain, [NOBODY, town.device(plain, 1)], NOBODY, SOON) as edge:
        edge(range(EXAMPLES), [1.0])
        edge.timeout = PATIENT
        edge.links[-1].away = True
        found = edge(range(EXAMPLES), [0.0])
        assert found.missing == ("device 0", "cloud")
        assert set(found.exits) == {"local"}
    with _edge(plain, [NOBODY, NOBODY], NOBODY, SOON) as edge, pytest.raises(NobodyThereError, match="none of 2"):
        edge(range(2), [0.5])


GREETING = b"\xff" + b"\0" * 8 + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + b"\0" * 32
READY_BODY = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"ROUTER"
READY = b"\x04" + bytes([len(READY_BODY)]) + READY_BODY
"""What a ROUTER says first in ZeroMQ's protocol 3.0."""
LARGE = 2


def test_one_that_goes_away_in_the_middle_of_a_frame_is_missing(plain: Case, town: Town) -> None:
    """The first device sends half of its answer and closes; the message was announced with its full size."""
    answer = device_bytes(plain.packed.shapes, EXAMPLES, 0)
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def half() -> None:
            there, _ = listening.accept()
            with there:
                there.sendall(GREETING + READY)
                while there.recv(4096):
                    there.sendall(bytes([LARGE]) + struct.pack(">Q", answer) + b"BD\x01\x02" + b"\0" * (answer // 2))
                    listening.close()
                    return

        running = threading.Thread(target=half)
        running.start()
        address = f"tcp://127.0.0.1:{listening.getsockname()[1]}"
        with _edge(plain, [address, town.device(plain, 1)], town.cloud(plain), 1.0) as edge:
            found = edge(range(EXAMPLES), [1.0])
        running.join()
    assert found.missing == ("device 0",)
    assert torch.equal(found.scores, plain.packed([None, plain.views[1]], [1.0]).scores)


@pytest.mark.parametrize(
    "lie", [b"\x80\x04pickled", b"BD\x01\x02\0\0\0\0\1\0\0\0" + b"\0" * 9, b"BD\x01\x07" + b"\0" * 8]
)
def test_one_that_lies_is_missing(plain: Case, town: Town, lie: bytes) -> None:
    class Liar(Device):
        def answer(self, who: bytes, message: bytes) -> bytes:
            return lie[:4] + message[4:8] + lie[8:]

    place = Liar(plain.packed.devices[0], plain.packed.shapes, lambda numbers: plain.views[0])
    with _edge(plain, [town.open(device_server(HERE), place), town.device(plain, 1)], NOBODY, 0.5) as edge:
        found = edge(range(EXAMPLES), [1.0])
        assert found.missing == ("device 0",)
        assert edge.traffic["device 0"].refused == 1


def test_strangers_do_not_stop_a_server(plain: Case, town: Town) -> None:
    """Bytes that are no ZeroMQ, and a message of a megabyte, end their own connection alone."""
    address, other = town.device(plain, 0), town.device(plain, 1)
    with socket.create_connection(("127.0.0.1", int(address.rpartition(":")[2]))) as stranger:
        stranger.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
    with Link("stranger", address, 100) as large:
        assert ask([large], b"x" * 2**20, 1, SOON) == [None]
        assert large.traffic.sent > 2**20, "it was on its way"
        assert town.received(address) == 0, "and nobody read it"
        with _edge(plain, [address, other], NOBODY) as edge:
            assert edge(range(EXAMPLES), [1.0]).missing == ()


def test_arguments_of_an_edge(plain: Case) -> None:
    with pytest.raises(ValueError, match="2 devices, so many addresses; got 1"):
        _edge(plain, [NOBODY], NOBODY)
    with pytest.raises(ValueError, match="timeout"):
        _edge(plain, [NOBODY, NOBODY], NOBODY, 0.0)
    with pytest.raises(ValueError, match="device 1 has no address 'nowhere'"):
        _edge(plain, [NOBODY, "nowhere"], NOBODY)
    with pytest.raises(OSError, match="cannot listen at tcp://256"):
        device_server("tcp://256.0.0.1:5")


def test_a_process_of_the_command_line(
    plain: Case, town: Town, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A device is a process of its own, the other one never comes; SIGTERM ends it well."""
    folder = tmp_path / "net"
    save_ddnn(plain.packed, folder, thresholds=[0.6])
    np.savez(tmp_path / "views.npz", views=plain.views[1].numpy())
    device = start("ddnn", "device", folder, 1, "--views", tmp_path / "views.npz")
    try:
        assert device.stdout is not None
        address = device.stdout.readline().split()[-4].rstrip(";")
        words = ["ddnn", "edge", folder, "--device", NOBODY, "--device", address, "--cloud", town.cloud(plain)]
        assert main([str(word) for word in [*words, "--count", EXAMPLES, "--timeout", 5, "--json"]]) == 0
    finally:
        device.send_signal(signal.SIGTERM)
        ended = device.communicate(timeout=60)
    said = json.loads(capsys.readouterr().out)
    assert said["missing"] == {"device 0": 1}
    assert said["shares"]["local"] == plain.packed([None, plain.views[1]], [0.6]).share("local")
    assert device.returncode == 0, ended
    assert f"device 1 of 2 ends: {EXAMPLES} examples" in ended[0]
