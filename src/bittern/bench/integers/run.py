# SPDX-License-Identifier: Apache-2.0
"""`bittern bench integers`: what quantizing costs and saves, and how fast the integers run beside other engines.

Float networks are quantized by `bittern.quantize` and timed against the same network in other engines, in int8 and in
float; networks that come in 8 bits run as their file says, against the engine that it was made for. One input at a
time, each row in turn with one other engine, in one process of their own (`speed.contest`).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from bittern.bench.core.machine import load_before, this_machine
from bittern.bench.core.timing import check_budget, compare, torch_threads
from bittern.bench.integers.networks import Examples, Filed, Network, Subject, subjects
from bittern.bench.integers.others.networks import Other
from bittern.bench.integers.others.run import Judged, judged
from bittern.bench.integers.peers import EXECUTORCH_INT8, LITERT, X86_INT8, File
from bittern.bench.integers.report import IntegersReport
from bittern.bench.integers.rows import Quality
from bittern.bench.speed.contest import LIMIT_S, Contest, PeerError
from bittern.bench.speed.peers import CHANNELS_LAST, FLOAT, ONNX_FP32, ONNX_INT8, OPENVINO_INT8, Peer
from bittern.bench.speed.rows import ITSELF, ONE_THREAD, THREADS_TARGET, Failure, SpeedRow, on_one_thread
from bittern.compat import tflite
from bittern.deploy.packed import Packed
from bittern.ptq import quantize

PEERS = (CHANNELS_LAST, FLOAT, ONNX_FP32, X86_INT8, ONNX_INT8, OPENVINO_INT8, EXECUTORCH_INT8)
"""Of a float network, in the order of the table: images have the first, sequences the second."""
FLOAT_TWIN, OWN_FILE = "the same in float, quantized by the engine where it is int8", "the same file"
IMAGE_DIMS = 3
"""Of one image."""
NOISE = 256
"""Inputs on which a network of random weights is compared."""
AT_ONCE = 256
"""Inputs that run together where accuracy is asked for."""
Tell = Callable[[str], None]


@dataclass
class _Run:
    """What a run measures with, and what it has found."""

    data: Path | None
    budget_s: float
    limit_s: float
    tell: Tell
    rows: list[SpeedRow] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    qualities: list[Quality] = field(default_factory=list)
    judged: list[Judged] = field(default_factory=list)


def run(
    threads: Sequence[int] = (1, 2),
    *,
    command: str,
    data: Path | None = None,
    budget_s: float = 2.0,
    limit_s: float = LIMIT_S,
    chosen: Sequence[Subject] | None = None,
    peers: Sequence[Peer] = (*PEERS, LITERT),
    on_row: Tell | None = None,
) -> IntegersReport:
    """Measure everything on the CPU, about `budget_s` seconds for each row.

    threads: each comparison is made with each of these numbers. data: the folder of data sets and trained networks;
    what needs it is left out without it, and named. chosen: None: all. The others: as `bench.speed.run`.

    Raises: ValueError for less than one thread, or a budget or limit that is not positive.
    """
    check_budget(budget_s)
    if not limit_s > 0.0:
        raise ValueError(f"bench integers: limit_s must be positive; got {limit_s}")
    state = _Run(data, budget_s, limit_s, on_row or (lambda subject: None))
    here = [peer for peer in peers if peer.missing() is None]
    missing = [f"{peer.name}: {reason}" for peer in peers if (reason := peer.missing()) is not None]
    load = load_before()
    with torch_threads(min(threads)):
        machine = this_machine()
    for one in subjects() if chosen is None else chosen:
        reason = one.missing(data)
        if reason is not None:
            missing.append(reason)
        elif isinstance(one, Other):
            assert data is not None  # Other.missing has looked
            state.judged += judged(one, data, state.tell)
        elif isinstance(one, Filed):
            _file(state, one, threads, [peer for peer in here if peer is LITERT])
        else:
            other = FLOAT if len(one.input_shape) == IMAGE_DIMS else CHANNELS_LAST
            _network(state, one, threads, [peer for peer in here if peer not in (LITERT, other)])
    measured = tuple(state.rows), tuple(state.qualities), tuple(missing), tuple(state.failures), tuple(state.judged)
    return IntegersReport(command, machine, load, *measured)


def _network(state: _Run, network: Network, threads: Sequence[int], peers: Sequence[Peer]) -> None:
    state.tell(f"{network.title}: quantizing")
    model, examples = network.build(state.data), network.examples(state.data)
    quantized = quantize(model, examples.calibration)
    packed = quantized.pack()
    ready = partial(_ready_network, network, state.data)
    for count in threads:
        _timed(state, network.title, FLOAT_TWIN, network.targets, packed, ready, peers, count)
    state.tell(f"{network.title}: answers")
    left = [f"{row.name}: {row.reason}" for row in quantized.report.kept_float]
    state.qualities.append(_quality(network, model, packed, examples, left))


def _file(state: _Run, filed: Filed, threads: Sequence[int], peers: Sequence[Peer]) -> None:
    assert state.data is not None  # Filed.missing has looked
    packed = tflite.load(state.data / filed.file)
    ready = partial(_ready_file, state.data / filed.file)
    for count in threads:
        _timed(state, filed.title, OWN_FILE, filed.targets, packed, ready, peers, count)


def _ready_network(network: Network, data: Path | None) -> tuple[nn.Module, Tensor]:
    """For another process: a float network and an input."""
    return network.build(data).requires_grad_(False), torch.randn(1, *network.input_shape)


def _ready_file(path: Path) -> tuple[nn.Module, Tensor]:
    """For another process: a file and an input."""
    (given,) = tflite.load(path).program.inputs
    shape, generator = given.shape_at(1), torch.Generator().manual_seed(0)
    return File(path.read_bytes()), torch.randint(-128, 128, shape, dtype=torch.int8, generator=generator)


def _timed(
    state: _Run,
    title: str,
    twin: str,
    targets: Mapping[str, float],
    packed: Packed,
    ready: Callable[[], tuple[nn.Module, Tensor]],
    peers: Sequence[Peer],
    threads: int,
) -> None:
    """All rows of a network with one number of threads."""
    file = packed.to_bytes()
    for peer in peers:
        state.tell(f"{title}: {peer.name}, {threads} thread(s)")
        try:
            found = Contest(file, ready, __name__, peer, threads, state.budget_s).hold(state.limit_s)
        except PeerError as error:
            state.failures.append(Failure(title, twin, peer.name, threads, str(error)))
            continue
        wanted = targets.get(peer.name) if threads == 1 else None
        state.rows.append(SpeedRow.of(title, twin, peer.name, threads, found, wanted))
    if threads > 1:
        _, x = ready()
        with torch_threads(threads):
            found = compare(
                partial(packed, x), partial(on_one_thread, packed, x, threads), budget_s=state.budget_s, settled=True
            )
        wanted = THREADS_TARGET if threads == 2 else None
        state.rows.append(SpeedRow.of(title, ITSELF, ONE_THREAD, threads, found, wanted))


def _quality(
    network: Network, model: nn.Module, packed: Packed, examples: Examples, left_in_float: Sequence[str]
) -> Quality:
    if examples.test is None:
        inputs = torch.randn(NOISE, *network.input_shape, generator=torch.Generator().manual_seed(1))
    else:
        inputs = examples.test.inputs
    with torch.no_grad():
        wanted = torch.cat([model(part) for part in torch.split(inputs, AT_ONCE)])
    got = torch.cat([packed(part) for part in torch.split(inputs, AT_ONCE)])
    ours, floats = got.argmax(1), wanted.argmax(1)
    labels = None if examples.test is None else examples.test.labels
    return Quality(
        network.title,
        sum(p.numel() * p.element_size() for p in model.parameters()),
        len(packed.to_bytes()),
        noise_db(wanted, got),
        _equal(ours, floats),
        len(inputs),
        None if labels is None else _equal(floats, labels),
        None if labels is None else _equal(ours, labels),
        tuple(left_in_float),
    )


def noise_db(wanted: Tensor, got: Tensor) -> float:
    """10 log10 of the energy of `wanted` over that of the difference."""
    signal, noise = (float(x.double().square().sum()) for x in (wanted, got - wanted))
    return 10.0 * math.log10(max(signal, 1e-300) / max(noise, 1e-300))


def _equal(a: Tensor, b: Tensor) -> float:
    return float((a == b).double().mean())
