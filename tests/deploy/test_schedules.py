# SPDX-License-Identifier: Apache-2.0
"""What is kept between calls, and who may use it: orders of sums for good, memory for whoever calls next."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from bittern.binary import BNN, BiRealNet, ReActNet, XNORNet
from bittern.deploy import Packed, pack
from bittern.deploy.engine import accumulation_order, idle
from bittern.deploy.engine.accumulation_order import Findings, same_bits
from bittern.deploy.engine.engine import Engine
from bittern.deploy.engine.schedule import Schedule
from bittern.nn import BinaryConv2d, BinaryLinear


def small_network() -> Packed:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, bias=False),
        BinaryConv2d(16, 24, 3, padding=1, method=BiRealNet),
        nn.Conv2d(24, 16, 1, bias=False),
        BinaryConv2d(16, 8, 3, method=BNN),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(8, 5),
    )
    return pack(model.eval(), torch.randn(1, 3, 12, 12))


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[int]]:
    """The shapes of the trials that are made from now on."""
    made: list[Sequence[int]] = []

    def count(torchs: object, agrees: object, shape: Sequence[int]) -> bool:
        made.append(shape)
        return same_bits(torchs, agrees, shape)  # type: ignore[arg-type]

    monkeypatch.setattr(accumulation_order, "same_bits", count)
    return made


def test_orders_are_looked_for_once(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = small_network()
    engine = Engine(packed.program, packed.tensors)
    made = counted(monkeypatch)
    x = torch.randn(40, 3, 12, 12)
    for batch in range(1, 12):
        engine(x[:batch])
    assert made
    made.clear()
    engine.release()
    for batch in range(1, 12):
        engine(x[:batch])
    thread = threading.Thread(target=engine, args=(x[:5],))
    thread.start()
    thread.join()
    assert not made


def test_findings_are_kept_by_batch_size_and_threads() -> None:
    asked: list[tuple[int, int]] = []
    findings = Findings(lambda batch: asked.append((batch, torch.get_num_threads())))
    before = torch.get_num_threads()
    try:
        for threads in (1, 2, 1):
            torch.set_num_threads(threads)
            for batch in (3, 4, 3):
                findings.at(batch)
    finally:
        torch.set_num_threads(before)
    assert asked == [(3, 1), (4, 1), (3, 2), (4, 2)]


def test_threads_lend_each_other_their_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = small_network()
    engine = Engine(packed.program, packed.tensors)
    x = torch.randn(2, 3, 12, 12)
    expected = engine(x)
    made = []
    init = Schedule.__init__
    monkeypatch.setattr(Schedule, "__init__", lambda self, *rest: (made.append(rest), init(self, *rest))[1])
    found: list[Tensor] = []
    for _ in range(3):
        thread = threading.Thread(target=lambda: found.append(engine(x)))
        thread.start()
        thread.join()
    assert not made
    assert all(torch.equal(result, expected) for result in found)
    with engine.schedule(2), engine.schedule(2):
        assert len(made) == 1


@pytest.mark.parametrize("most", [(5, 2**40), (64, 1)])
def test_what_is_kept_is_bounded(most: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle, "MOST_KEPT", most[0])
    monkeypatch.setattr(idle, "MOST_BYTES", most[1])
    packed = small_network()
    engine = Engine(packed.program, packed.tensors)
    for batch in range(1, 9):
        engine(torch.randn(batch, 3, 12, 12))
    kept = engine._idle.kept()
    assert [schedule.batch for schedule in kept] == list(range(1, 9))[-min(most[0], 4 if most[1] == 1 else 8) :]
    assert engine._idle._count == len(kept) - 1
    assert engine._idle._nbytes == sum(schedule.nbytes for schedule in kept[:-1])
    engine.release()
    assert not engine._idle.kept()


class Bits(nn.Module):
    """A product of bits that torch calls by itself behind native groups: its input is no part of a batch."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = BinaryConv2d(3, 24, 3, padding=1, method=BNN), BinaryConv2d(24, 8, 1, method=XNORNet)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x))


NETWORKS = {
    "behind it a head": lambda: nn.Sequential(
        BinaryConv2d(3, 24, 3, padding=1, method=ReActNet), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 5)
    ),
    "native alone": lambda: nn.Sequential(
        BinaryConv2d(3, 24, 3, padding=1, method=BNN), nn.BatchNorm2d(24), BinaryConv2d(24, 6, 3, method=BNN)
    ),
    "a row": lambda: nn.Sequential(nn.Flatten(), BinaryLinear(189, 40, method=BNN), BinaryLinear(40, 7, method=BNN)),
    "two readers": lambda: Bits(),
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("threads", [1, 2])
def test_a_large_batch_runs_in_parts(name: str, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bittern.deploy.engine.schedule.PART_BYTES", 1)
    torch.manual_seed(0)
    model = NETWORKS[name]().eval()
    packed = pack(model, torch.randn(1, 3, 7, 9))
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        for batch in (1, 2, 3, 7, 0):
            x = torch.randn(batch, 3, 7, 9)
            with torch.no_grad():
                assert torch.equal(packed(x), model(x))
                assert torch.equal(packed(x.to(memory_format=torch.channels_last)), model(x))
    finally:
        torch.set_num_threads(before)


def test_parts_are_nearly_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    packed = small_network()
    engine = Engine(packed.program, packed.tensors)
    way, _ = engine._way(1)
    way.images_at_once = 8
    assert way.sizes(8, 1) == [8]
    assert way.sizes(9, 1) == [5, 4]
    assert way.sizes(33, 1) == [7, 7, 7, 6, 6]
    assert way.sizes(33, 2) == [11, 11, 11]
    assert way.sizes(0, 1) == [0]
