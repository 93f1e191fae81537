# SPDX-License-Identifier: Apache-2.0
"""Two devices and a cloud, each a server with its packed part, asked over real sockets; one device is away at last."""

from __future__ import annotations

from collections.abc import Sequence
from threading import Event, Thread

import torch
from torch import Tensor

from bittern.binary import BNN
from bittern.data import digits, tiled
from bittern.ddnn import Cloud, Device, Edge, cloud_server, device_server, pack_ddnn, serve
from bittern.models import Level, ddnn
from bittern.train import ManyExits, Recipe, train

HERE = "tcp://127.0.0.1:0"
EXAMPLES, THRESHOLD = 100, 0.5


def main() -> None:
    learn, test = tiled(digits(), rows=1, columns=2)
    torch.manual_seed(0)
    model = ddnn(BNN, views=2, input_size=(8, 4), device_widths=(8,), cloud=Level((16,)), shared=True)
    train(model, (learn, test), Recipe(epochs=1, learning_rate=0.02), task=ManyExits(), progress=False)
    packed = pack_ddnn(model, [view[:32] for view in test.views])

    def camera(index: int) -> Device:
        def look(numbers: Sequence[int]) -> Tensor:
            return test.views[index][list(numbers)]

        return Device(packed.devices[index], packed.shapes, look)

    stop = Event()
    servers = [device_server(HERE), device_server(HERE), cloud_server(HERE, packed.shapes)]
    places = [camera(0), camera(1), Cloud(packed.cloud, packed.shapes)]
    threads = [Thread(target=serve, args=(s, p, stop)) for s, p in zip(servers, places, strict=True)]
    for thread in threads:
        thread.start()
    first, second, cloud = (server.address for server in servers)
    for devices in ([first, second], ["tcp://127.0.0.1:9", second]):
        with Edge(packed.shapes, packed.local, packed.edge, devices, cloud, timeout=1.0) as edge:
            answers = edge(range(EXAMPLES), [THRESHOLD])
            right = float((answers.classes == test.labels[:EXAMPLES]).double().mean())
            sent = edge.traffic["device 1"].received / EXAMPLES
            print(f"{right:.0%} right, {answers.share('local'):.0%} leave locally, {sent:.1f} bytes each of device 1")
            print(f"missing: {', '.join(answers.missing) or 'nobody'}")
    stop.set()
    for thread, server in zip(threads, servers, strict=True):
        thread.join()
        server.close()


if __name__ == "__main__":
    main()
