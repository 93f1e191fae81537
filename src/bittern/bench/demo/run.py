# SPDX-License-Identifier: Apache-2.0
"""`bittern demo`: every binary method on handwritten digits, trained, packed, verified and timed in a few minutes.

All networks are one architecture, `DemoNet`, and one recipe; nothing is tuned for any method. The float baseline is
the same network with float convolutions, timed as torch runs it, call by call ("eager").
"""

from __future__ import annotations

import copy
import dataclasses
import datetime
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn

from bittern import binary, deploy
from bittern.bench.core.machine import this_machine
from bittern.bench.core.timing import Comparison, compare, torch_threads
from bittern.bench.demo.optimizers import optimizer_rows
from bittern.bench.demo.result import FLOAT, DemoResult, Half, Latency, Row, Settings
from bittern.data import ImageData, digits, normalize
from bittern.nn.conv import BinaryConv2d
from bittern.quantizer import Quantizer
from bittern.train import Epoch, evaluate, train

BATCHES = (1, 32)
"""Batch sizes that are timed."""
REPETITIONS = 3
"""Each comparison is made so many times: how far the results differ tells how noisy the machine is."""
NETWORK = (
    "a 3x3 convolution from 1 to 64 channels (float); three 3x3 convolutions, 64 to 64, 64 to 128 with stride 2, and "
    "128 to 128 (by the method), each with batch norm, a shortcut and Hardtanh; the mean over space; a linear layer "
    "from 128 to 10 (float)"
)
"""`DemoNet` in words."""
QUICK_IMAGES = 128
"""Images of a quick run, to train on and to test with."""


class DemoBlock(nn.Module):
    """Hardtanh(BN(conv3x3(x)) + shortcut(x)): [batch, c, h, w] -> the same, or [batch, 2 c, h / 2, w / 2] (`widen`)."""

    def __init__(self, channels: int, method: type[Quantizer] | None, *, widen: bool = False) -> None:
        super().__init__()
        out, stride = (2 * channels, 2) if widen else (channels, 1)
        if method is None:
            self.conv: nn.Module = nn.Conv2d(channels, out, 3, stride, 1, bias=False)
        else:
            self.conv = BinaryConv2d(channels, out, 3, stride, 1, method=method)
        self.norm = nn.BatchNorm2d(out)
        self.shrink = nn.AvgPool2d(2) if widen else None
        self.activation = nn.Hardtanh()

    def forward(self, x: Tensor) -> Tensor:
        skip = x
        if self.shrink is not None:
            small = self.shrink(x)
            skip = torch.cat((small, small), 1)
        y: Tensor = self.activation(self.norm(self.conv(x)) + skip)
        return y


class DemoNet(nn.Module):
    """x [batch, 1, 8, 8] -> logits [batch, 10]: a float 3x3 stem, three 3x3 convolutions by `method`, a float head.

    method: a Quantizer class; None: float convolutions, the baseline. width: channels of the stem.
    """

    def __init__(self, method: type[Quantizer] | None, width: int = 64) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, 1, 1, bias=False), nn.BatchNorm2d(width), nn.Hardtanh())
        self.blocks = nn.Sequential(
            DemoBlock(width, method), DemoBlock(width, method, widen=True), DemoBlock(2 * width, method)
        )
        self.pool = nn.AvgPool2d(4)
        self.flatten = nn.Flatten()
        self.head = nn.Linear(2 * width, 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.flatten(self.pool(self.blocks(self.stem(x)))))
        return logits


class Watcher(Protocol):
    """Sees the run go by."""

    def training(self, name: str, step: int, steps: int) -> None:
        """`step` of `steps` is done in the training of the network `name`."""

    def epoch(self, name: str, row: Epoch) -> None:
        """An epoch is done."""

    def packing(self, name: str) -> None:
        """The network `name` is trained and is being packed and verified."""

    def packed(self, name: str, model: deploy.Packed) -> None:
        """The network `name` is packed and verified."""

    def timing(self, name: str) -> None:
        """The packed model is being timed."""

    def done(self, row: Row) -> None:
        """Everything about one network is known."""

    def optimizers(self) -> None:
        """The networks are done; optimizers are being compared."""


NAMES = (FLOAT, *(method.__name__ for method in binary.COMPARED))
"""Networks of the demo, in their order."""


def run(settings: Settings, watcher: Watcher, *, command: str) -> DemoResult:
    """Train, pack, verify and time the baseline and every method; `command` is what the report says to type."""
    begun = time.perf_counter()
    started = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    data = _data(settings)
    rows: list[Row] = []
    rivals: tuple[Rival, ...] = ()
    with torch_threads(settings.threads), _own_randomness():
        for method in (None, *binary.COMPARED):
            model, row = _one(method, data, settings, rivals, watcher)
            if method is None:
                rivals = tuple(_rival(model, _test_images(data)[:batch], settings) for batch in BATCHES)
            rows.append(row)
            watcher.done(row)
        watcher.optimizers()
        optimizers = optimizer_rows(settings)
        machine = this_machine()
    return DemoResult(
        rows=tuple(rows),
        optimizers=optimizers,
        settings=settings,
        network=NETWORK,
        data=data.name,
        train_images=len(data.train_labels),
        test_images=len(data.test_labels),
        machine=machine,
        command=command,
        started=started,
        seconds=time.perf_counter() - begun,
    )


class Rival(NamedTuple):
    """The float baseline on one input, as packed models are timed against it."""

    layout: str
    x: Tensor
    call: Callable[[], Tensor]


def _one(
    method: type[Quantizer] | None,
    data: ImageData,
    settings: Settings,
    rivals: tuple[Rival, ...],
    watcher: Watcher,
) -> tuple[nn.Module, Row]:
    """Everything about one network."""
    name = FLOAT if method is None else method.__name__
    recipe = settings.recipe()
    steps = recipe.epochs * (len(data.train_labels) // recipe.batch_size)
    images = _test_images(data)
    torch.manual_seed(settings.seed)
    model = DemoNet(method).eval()
    with torch.no_grad():
        model(images[:1])  # gives XNOR-Net++ its sizes; in eval mode nothing else changes
    losses: list[float] = []
    watcher.training(name, 0, steps)

    def on_step(step: int, loss: float) -> None:
        losses.append(loss)
        watcher.training(name, step, steps)

    history = train(
        model, data, recipe, progress=False, on_step=on_step, on_epoch=lambda epoch: watcher.epoch(name, epoch)
    )
    watcher.packing(name)
    packed = deploy.pack(model, images[: settings.batch_size], data=data)
    packed.info.update({"network": "demo", "method": name})
    report = deploy.verify(packed, model, images)
    watcher.packed(name, packed)
    watcher.timing(name)
    return model, Row(
        name=name,
        accuracy=evaluate(packed, data).accuracy,
        stored_bytes=len(packed.to_bytes()),
        binary_bytes=_binary_bytes(packed),
        accumulators=sum(layer.accumulators for layer in report.layers),
        different=sum(layer.different for layer in report.layers),
        logits_identical=report.logits_identical,
        max_difference=report.max_difference,
        exact=report.exact,
        latencies=tuple(_time(packed, rival, settings) for rival in rivals),
        losses=tuple(losses),
        accuracies=tuple(epoch.test_accuracy for epoch in history.epochs),
        seconds=sum(epoch.seconds for epoch in history.epochs),
    )


def _binary_bytes(packed: deploy.Packed) -> int:
    """Stored weights of the three convolutions that the methods make binary."""
    nodes = (node for node in packed.program.nodes if node.kind in ("binary", "decoded", "conv"))
    weights = [packed.tensors[node.tensors["weight"]] for node in nodes if node.name.startswith("blocks.")]
    return sum(weight.numel() * weight.element_size() for weight in weights)


def _rival(model: nn.Module, x: Tensor, settings: Settings) -> Rival:
    """The float baseline in the faster of torch's two memory layouts."""
    plain = Rival("contiguous", x, _inference(partial(model, x)))
    y = x.contiguous(memory_format=torch.channels_last)
    other = copy.deepcopy(model).to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub
    last = Rival("channels-last", x, _inference(partial(other, y)))
    faster = compare(last.call, plain.call, budget_s=settings.timing_s).speedup.median > 1.0
    return last if faster else plain


def _time(packed: deploy.Packed, rival: Rival, settings: Settings) -> Latency:
    budget_s = settings.timing_s / REPETITIONS
    call = _inference(partial(packed, rival.x))
    pairs = [compare(call, rival.call, budget_s=budget_s) for _ in range(REPETITIONS)]
    every = Comparison(
        tuple(us for pair in pairs for us in pair.candidate_us), tuple(us for pair in pairs for us in pair.baseline_us)
    )
    return Latency(
        batch=len(rival.x),
        packed_us=every.latency_us,
        packed_half_us=_half(every.candidate_us),
        float_us=every.baseline_latency_us,
        float_half_us=_half(every.baseline_us),
        layout=rival.layout,
        speedup=every.speedup,
        repeated=tuple(pair.speedup.median for pair in pairs),
    )


def _half(samples: Sequence[float]) -> Half:
    low, _, high = statistics.quantiles(samples, n=4, method="inclusive")
    return Half(low, high)


def _inference(call: Callable[[], Tensor]) -> Callable[[], Tensor]:
    return torch.inference_mode()(call)


def _data(settings: Settings) -> ImageData:
    data = digits()
    if not settings.quick:
        return data
    few = slice(QUICK_IMAGES)
    return dataclasses.replace(
        data,
        train_images=data.train_images[few],
        train_labels=data.train_labels[few],
        test_images=data.test_images[few],
        test_labels=data.test_labels[few],
    )


def _test_images(data: ImageData) -> Tensor:
    return normalize(data.test_images, data.mean, data.std)


@contextmanager
def _own_randomness() -> Iterator[None]:
    """Leave the caller's generator as it was."""
    with torch.random.fork_rng([]):
        yield
