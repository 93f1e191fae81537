# SPDX-License-Identifier: Apache-2.0
"""`bittern bench ops`: the kernels and the packed ResNet-20 against torch, each pair timed in turn in one process.

What is counted. "Packing counted" times start from float tensors; without it the input is packed already, as it is
inside a packed network, where a layer hands bits to the next. Weights are prepared beforehand on both sides. torch's
side is fp32, its convolutions channels-last. The headline of each kernel is the row that has a target.

Rates. A multiply-accumulate (MAC) is one product of two signs, added. Two peaks of this machine stand beside them:
`fp32_gmac_s`, torch's own matmul, and for every instruction set the best rate of `binary_matmul` on operands that stay
in the cache and long sums (`in_cache_gmac_s`), which its kernel can reach when little but arithmetic limits it.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bittern import binary, deploy
from bittern.bench.core.machine import (
    COPY_ELEMENTS,
    FLOAT_BYTES,
    MATMUL_SIDE,
    copy_bandwidth_gb_s,
    fp32_gmac_s,
    this_machine,
)
from bittern.bench.core.rows import Figure, OpRow
from bittern.bench.core.timing import Comparison, Spread, check_budget, compare, latency, torch_threads
from bittern.bench.kernels.groups import MOBILE, Grouped, grouped_rows
from bittern.bench.kernels.multibit import multibit_rows
from bittern.bench.kernels.report import OpsReport, Peak
from bittern.models import resnet20_cifar
from bittern.nn.summary import summary
from bittern.ops import Isa, PreparedConv2d, PreparedMatmul, available_isas, chosen_isa, pack_signs
from bittern.quantizer import Quantizer

KERNEL = 3
IN_CACHE = (256, 256, 8192)
"""A matmul whose packed operands, 256 KiB each, stay in the second-level cache, and which sums long enough per output
that little but counting is left."""
PACK_COLUMNS = 4096
WORD_BITS = 64
WORD_BYTES = 8
MATMUL_TARGETS = {Isa.AVX2: 2.0, Isa.AVX512: 7.0}
CONV_TARGET = 6.0
PACK_TARGET = 0.5
RESNET_TARGET = 1.5
PROGRAM_BYTES_TARGET = 16 * 1024
IMPORT_TARGET_S = 0.3


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the operands are, and how many imports.

    The targets hold for the defaults; smaller ones only show that everything runs.
    """

    matmul: tuple[int, int, int] = (1024, 1024, 4096)
    """Rows of activations, outputs, and K, the length of the sums."""
    convs: tuple[tuple[int, int], ...] = ((64, 56), (128, 28), (256, 14), (512, 7))
    """(channels in and out, height and width) of 3x3 convolutions: the stages of ResNet-18 at 224 x 224."""
    groups: tuple[Grouped, ...] = MOBILE
    hidden: tuple[int, ...] = (1024, 2048, 4096)
    """Inputs, and outputs, of `multibit_matvec`."""
    pack_rows: int = COPY_ELEMENTS // PACK_COLUMNS
    copy_elements: int = COPY_ELEMENTS
    fp32_side: int = MATMUL_SIDE
    imports: int = 5
    """Processes in which the import is timed."""


def run(
    threads: int = 1,
    *,
    budget_s: float = 2.0,
    sizes: Sizes = Sizes(),
    methods: Sequence[type[Quantizer]] = binary.COMPARED,
    on_row: Callable[[str], None] | None = None,
) -> OpsReport:
    """Measure everything on the CPU with `threads` threads, about `budget_s` seconds for each row.

    sizes: of the operands. methods: those whose packed ResNet-20 is timed. on_row: told the subject of each
    measurement before it starts.

    Raises: ValueError for less than one thread or a budget that is not positive.
    """
    check_budget(budget_s)
    tell = on_row if on_row is not None else lambda subject: None
    with torch_threads(threads), torch.inference_mode():
        tell("peaks of this machine")
        machine = this_machine()
        copy, fp32 = copy_bandwidth_gb_s(sizes.copy_elements), fp32_gmac_s(sizes.fp32_side)
        peaks = {isa: in_cache_gmac_s(isa) for isa in available_isas()}
        rows: list[OpRow] = []
        for measure in _kernels(sizes, peaks, budget_s):
            tell(measure.subject)
            rows.append(measure.run())
        figures: list[Figure] = []
        for method in methods:
            tell(f"ResNet-20, {method.__name__}")
            row, figure = resnet20(method, budget_s)
            rows.append(row)
            figures.append(figure)
    tell("import time")
    figures.append(Figure("import of bittern beyond torch", import_seconds(sizes.imports), "s", IMPORT_TARGET_S))
    listed = tuple(Peak(isa.label, rate) for isa, rate in peaks.items())
    return OpsReport(machine, copy, fp32, listed, tuple(rows), tuple(figures))


@dataclass(frozen=True)
class _Measurement:
    subject: str
    run: Callable[[], OpRow]


def _kernels(sizes: Sizes, peaks: dict[Isa, Spread], budget_s: float) -> list[_Measurement]:
    """Every row of a kernel, in the order of the table."""
    listed: list[tuple[str, Callable[[], OpRow]]] = []
    for isa in reversed(available_isas()):
        listed.append(("binary_matmul", partial(matmul, isa, sizes.matmul, peaks[isa], budget_s, packing=True)))
    best = chosen_isa()
    listed.append(("binary_matmul", partial(matmul, best, sizes.matmul, peaks[best], budget_s, packing=False)))
    for channels, size in sizes.convs:
        for packing in (False, True):
            call = partial(conv2d, best, channels, size, peaks[best], budget_s, packing=packing)
            listed.append((f"binary_conv2d {channels}, {size} x {size}", call))
    listed += grouped_rows(best, sizes.groups, budget_s)
    listed += multibit_rows(best, sizes.hidden, budget_s)
    listed.append(("pack_signs", partial(packing_rate, sizes.pack_rows, budget_s)))
    return [_Measurement(subject, call) for subject, call in listed]


def in_cache_gmac_s(isa: Isa) -> Spread:
    """1e9 multiply-accumulates per second of `binary_matmul` where only arithmetic limits it."""
    rows, columns, k = IN_CACHE
    a, b = pack_signs(torch.randn(rows, k)), pack_signs(torch.randn(columns, k))
    prepared = PreparedMatmul(b, k, isa=isa)
    time_us = latency(lambda: prepared(a))
    return Spread(*(_per_us(rows * columns * k, t) for t in (time_us.median, time_us.max, time_us.min)))


def matmul(isa: Isa, shape: tuple[int, int, int], peak: Spread, budget_s: float, *, packing: bool) -> OpRow:
    """binary_matmul against torch's fp32 product of the same shape."""
    rows, columns, k = shape
    a, b = torch.randn(rows, k), torch.randn(columns, k)
    prepared = PreparedMatmul(pack_signs(b), k, isa=isa)
    words = pack_signs(a)
    subject = f"binary_matmul {rows}x{columns}x{k}{', packing counted' if packing else ''}"
    # the op's own front door packs with the chosen set; a comparison at `isa` packs at `isa` too
    candidate = (lambda: prepared(pack_signs.native(isa, a))) if packing else (lambda: prepared(words))
    compared = compare(candidate, lambda: F.linear(a, b), budget_s=budget_s)
    target = MATMUL_TARGETS.get(isa) if packing else None
    return _mac_row(subject, isa, "fp32 matmul", compared, rows * columns * k, peak, target)


def conv2d(isa: Isa, channels: int, size: int, peak: Spread, budget_s: float, *, packing: bool) -> OpRow:
    """binary_conv2d 3x3, stride 1, zero padding, batch 1, against torch's fp32 convolution, channels-last."""
    x = torch.randn(1, channels, size, size).contiguous(memory_format=torch.channels_last)
    w = torch.randn(channels, channels, KERNEL, KERNEL).contiguous(memory_format=torch.channels_last)
    prepared = PreparedConv2d(_pack_channels(w), channels, (1, 1), (1, 1), (1, 1), isa=isa)
    words = _pack_channels(x)
    head = f"binary_conv2d {KERNEL}x{KERNEL} {channels}->{channels} at {size}x{size}"
    subject = f"{head}{', packing counted' if packing else ''}"
    candidate = (lambda: prepared(_pack_channels(x))) if packing else (lambda: prepared(words))
    compared = compare(candidate, lambda: F.conv2d(x, w, padding=1), budget_s=budget_s)
    macs = size * size * channels * channels * KERNEL * KERNEL
    target = None if packing else CONV_TARGET
    return _mac_row(subject, isa, "fp32 channels-last conv", compared, macs, peak, target)


def packing_rate(rows: int, budget_s: float) -> OpRow:
    """pack_signs of fp32 against torch's copy of the same tensor, both in bytes read plus bytes written per second."""
    x = torch.randn(rows, PACK_COLUMNS)
    target = torch.empty_like(x)
    compared = compare(lambda: pack_signs(x), lambda: target.copy_(x), budget_s=budget_s)
    moved = x.numel() * FLOAT_BYTES + x.numel() // WORD_BITS * WORD_BYTES
    copied = 2 * x.numel() * FLOAT_BYTES
    share = compared.speedup.scaled(moved / copied)
    return OpRow(
        f"pack_signs fp32, {moved / 2**20:.0f} MiB moved",
        chosen_isa().label,
        "copy",
        compared.latency_us,
        compared.baseline_latency_us,
        share,
        _per_us(moved, compared.latency_us.median),
        "GB/s moved",
        share.median,
        PACK_TARGET,
    )


def resnet20(method: type[Quantizer], budget_s: float) -> tuple[OpRow, Figure]:
    """Packed CIFAR ResNet-20, one image, against its float twin in torch, and the size of its file."""
    with torch.inference_mode(False):
        model, twin = resnet20_cifar(method).eval(), resnet20_cifar().eval()
        x = torch.randn(1, 3, 32, 32)
        packed = deploy.pack(model, x)
        excess = len(packed.to_bytes()) - summary(model, x).bytes
    layout, baseline = _faster_float(twin, x, budget_s)
    compared = compare(lambda: packed(x), baseline, budget_s=budget_s)
    row = OpRow(
        f"ResNet-20 {method.__name__}, packed, batch 1",
        chosen_isa().label,
        f"float twin, {layout}",
        compared.latency_us,
        compared.baseline_latency_us,
        compared.speedup,
        None,
        "",
        None,
        RESNET_TARGET,
    )
    return row, Figure(f"ResNet-20 {method.__name__}, file beyond summary", excess, "bytes", PROGRAM_BYTES_TARGET)


def import_seconds(runs: int) -> float:
    """Seconds that `import bittern` takes in a process that has imported torch, median of `runs` processes.

    One process before them is not counted: it lets Python keep the compiled modules, as it does after any first import.
    """
    program = "import time, torch; started = time.perf_counter(); import bittern; print(time.perf_counter() - started)"
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    found = []
    for _ in range(1 + runs):
        child = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
        )
        found.append(float(child.stdout))
    return Spread.of(found[1:]).median


def _faster_float(twin: nn.Module, x: Tensor, budget_s: float) -> tuple[str, Callable[[], Tensor]]:
    """The faster of torch's two memory layouts for the float model."""
    other = resnet20_cifar().eval()
    other.load_state_dict(twin.state_dict())
    other = other.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # torch's stub lacks this form
    y = x.contiguous(memory_format=torch.channels_last)
    plain: Callable[[], Tensor] = partial(twin, x)
    channels_last: Callable[[], Tensor] = partial(other, y)
    if compare(channels_last, plain, budget_s=budget_s / 4).speedup.median > 1.0:
        return "channels-last", channels_last
    return "contiguous", plain


def _pack_channels(x: Tensor) -> Tensor:
    """[n, channels, h, w] -> int64 [n, h, w, words]."""
    return pack_signs(x.permute(0, 2, 3, 1))


def _mac_row(
    subject: str, isa: Isa, baseline: str, compared: Comparison, macs: int, peak: Spread, target: float | None
) -> OpRow:
    rate = _per_us(macs, compared.latency_us.median)
    return OpRow(
        subject,
        isa.label,
        baseline,
        compared.latency_us,
        compared.baseline_latency_us,
        compared.speedup,
        rate,
        "GMAC/s",
        rate / peak.max,
        target,
    )


def _per_us(work: float, time_us: float) -> float:
    """1e9 units of work per second."""
    return work / time_us / 1e3
