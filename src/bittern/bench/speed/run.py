# SPDX-License-Identifier: Apache-2.0
"""`bittern bench speed`: packed networks against other engines on the float networks that they replace.

One image at a time. Each row is timed in turn with one other engine, in one process of their own (`contest`), each
sample behind an untimed call of the same engine; what an engine sets up beforehand (export, compilation, quantization,
layout of weights) is not timed. A peer whose package is missing is named in the report; one that cannot take a network,
crashes or hangs has a row that says so. Then, on the least number of threads: the file, the memory of a run, and how
near each binary layer comes to the measured peak of counting.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor, nn

from bittern import deploy
from bittern.bench.core.machine import load_before, this_machine
from bittern.bench.core.rows import Figure
from bittern.bench.core.timing import Comparison, Spread, check_budget, compare, torch_threads
from bittern.bench.speed import layers as speed_layers
from bittern.bench.speed.accuracy import points_of
from bittern.bench.speed.contest import LIMIT_S, Contest, PeerError
from bittern.bench.speed.memory import MemoryRow, measure
from bittern.bench.speed.networks import Network, Twin, networks
from bittern.bench.speed.peers import PEERS, Peer
from bittern.bench.speed.report import MIB, NetworkLayers, SpeedReport
from bittern.bench.speed.rows import ITSELF, ONE_THREAD, THREADS_TARGET, Failure, SpeedRow, on_one_thread
from bittern.deploy.engine.groups.block import Block
from bittern.deploy.packed import Packed
from bittern.nn import ConstantInputWarning
from bittern.ops import chosen_isa

OWN_BF16 = "bittern, real layers in bf16"
Tell = Callable[[str], None]


@dataclass
class _Run:
    """What a run measures with, and what it has found."""

    budget_s: float
    limit_s: float
    peers: Sequence[Peer]
    tell: Tell
    rows: list[SpeedRow] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)


def run(
    threads: Sequence[int] = (1, 2),
    *,
    command: str,
    budget_s: float = 2.0,
    limit_s: float = LIMIT_S,
    chosen: Sequence[Network] | None = None,
    peers: Sequence[Peer] = PEERS,
    kernels: Sequence[tuple[int, int]] = speed_layers.KERNELS,
    on_row: Tell | None = None,
) -> SpeedReport:
    """Measure everything on the CPU, about `budget_s` seconds for each row.

    threads: each comparison is made with each of these numbers. command: what the report names as its origin. limit_s:
    the longest that an engine may take to be built, or to be timed beside its budget. chosen: networks, None: all; what
    builds their twins goes to other processes, so it is no lambda. kernels: (height and width, channels) of isolated
    convolutions. on_row: told the subject of each measurement before it starts.

    Raises: ValueError for less than one thread, or a budget or limit that is not positive.
    """
    check_budget(budget_s)
    if not limit_s > 0.0:
        raise ValueError(f"bench speed: limit_s must be positive; got {limit_s}")
    state = _Run(budget_s, limit_s, [p for p in peers if p.missing() is None], on_row or (lambda subject: None))
    missing = tuple(f"{peer.name}: {reason}" for peer in peers if (reason := peer.missing()) is not None)
    load = load_before()
    figures: list[Figure] = []
    memory: list[MemoryRow] = []
    layers: list[NetworkLayers] = []
    least = min(threads)
    with torch_threads(least):
        machine = this_machine()
        state.tell("peak of counting")
        peak = speed_layers.peak_gmac_s(chosen_isa())
        found = tuple(speed_layers.kernels(chosen_isa(), kernels))
    measured = networks() if chosen is None else tuple(chosen)
    for network in measured:
        state.tell(f"{network.title}: packing")
        packed = _packed(network)
        for count in threads:
            _compare(state, network, packed, count)
        with torch_threads(least):
            state.tell(f"{network.title}: file, memory, layers")
            figures += _file(network, packed)
            memory += _memory(network, packed)
            layers.append(_layers(network, packed, speed_layers.peak_gmac_s(chosen_isa())))
    return SpeedReport(
        command, machine, load, tuple(state.rows), missing, tuple(figures), tuple(memory), peak, found,
        tuple(layers), points_of(state.rows, measured, least), tuple(state.failures),
    )  # fmt: skip


def _packed(network: Network) -> Packed:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConstantInputWarning)  # of norms that nobody trained
        return deploy.pack(network.build().eval(), torch.randn(1, *network.input_shape))


def _compare(state: _Run, network: Network, packed: Packed, threads: int) -> None:
    """All rows of a network with one number of threads."""
    file = packed.to_bytes()
    for twin in network.twins:
        for peer in state.peers:
            state.tell(f"{network.title}: {peer.name}, {threads} thread(s)")
            ready = partial(_twin, twin.build, network.input_shape)
            try:
                found = Contest(file, ready, __name__, peer, threads, state.budget_s).hold(state.limit_s)
            except PeerError as error:
                state.failures.append(Failure(network.title, twin.name, peer.name, threads, str(error)))
                continue
            _row(state, network, twin, peer.name, threads, found)
    state.tell(f"{network.title}: itself")
    with torch_threads(threads):
        _against_itself(state, network, packed, threads)


def _twin(build: Callable[[], nn.Module], input_shape: tuple[int, ...]) -> tuple[nn.Module, Tensor]:
    """For the other process: a float network and an image."""
    return build().eval().requires_grad_(False), torch.randn(1, *input_shape)


def _against_itself(state: _Run, network: Network, packed: Packed, threads: int) -> None:
    x = torch.randn(1, *network.input_shape)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it may be slower: the row says by how much
        bf16 = packed.with_real(torch.bfloat16)
    ours, itself = partial(packed, x), Twin(ITSELF, network.build)
    found = compare(ours, partial(bf16, x), budget_s=state.budget_s, settled=True)
    _row(state, network, itself, OWN_BF16, threads, found)
    if threads > 1:
        itself = replace(itself, targets={ONE_THREAD: THREADS_TARGET} if threads == 2 else {})
        alone = partial(on_one_thread, packed, x, threads)
        found = compare(ours, alone, budget_s=state.budget_s, settled=True)
        _row(state, network, itself, ONE_THREAD, threads, found)


def _row(state: _Run, network: Network, twin: Twin, peer: str, threads: int, compared: Comparison) -> None:
    wanted = twin.targets.get(peer) if threads == 1 or peer == ONE_THREAD else None
    state.rows.append(SpeedRow.of(network.title, twin.name, peer, threads, compared, wanted))


def _file(network: Network, packed: Packed) -> Iterator[Figure]:
    if network.file_limit_mib is not None:
        yield Figure(f"{network.title}: file", len(packed.to_bytes()) / MIB, "MiB", network.file_limit_mib)


def _memory(network: Network, packed: Packed) -> Iterator[MemoryRow]:
    if network.memory_share_limit is None:
        return
    twin = network.twins[0]
    found = measure(packed, twin.build(), twin.build)
    if found is not None:
        yield MemoryRow(network.title, twin.name, *found, network.memory_share_limit)


def _layers(network: Network, packed: Packed, peak: Spread) -> NetworkLayers:
    x = torch.randn(1, *network.input_shape)
    with torch.no_grad():
        profile = packed.engine.profile(x, repeats=speed_layers.PROFILE_REPEATS)
    other = sum(time_us for group, time_us in profile if not isinstance(group, Block))
    return NetworkLayers(network.title, tuple(speed_layers.layers(packed.engine, profile, peak)), other)
