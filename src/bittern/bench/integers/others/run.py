# SPDX-License-Identifier: Apache-2.0
"""Quantizes a network of others in each setting, and judges it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from bittern.bench.integers.others.networks import Other
from bittern.deploy.packed import from_bytes
from bittern.nn._table import text_table
from bittern.ptq import MinMax, Percentile, quantize

STRENGTH = 0.5
SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "MinMax": {"observer": MinMax},
    "Percentile": {"observer": Percentile},
    "Percentile, channel scales, biases": {
        "observer": Percentile,
        "channel_scales": STRENGTH,
        "bias_correction": True,
    },
}
"""Arguments of `quantize`, by what rows call them."""
AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Judged:
    """One network in one setting."""

    network: str
    setting: str
    metric: str
    float_score: float
    score: float
    noise_db: float
    """Signal over the error of all answers, on the test inputs."""
    calibration_db: float
    """The same on the calibration data, by which a setting is chosen."""
    integer_macs: float
    """Share of the multiply-accumulates."""
    same_from_file: bool
    """Whether the packed file, loaded again, gives the same answers."""
    left_in_float: tuple[str, ...]


def judged(other: Other, data: Path, tell: Callable[[str], None]) -> list[Judged]:
    """A row for each setting. Raises: what its files raise."""
    model, given = other.load(data), other.given(data)
    floats, before = _answers(model, given.test), _answers(model, given.calibration)
    rows = []
    for name, setting in SETTINGS.items():
        tell(f"{other.title}: {name}")
        network = quantize(model, given.calibration, keep=other.keep, **setting)
        found = _answers(network, given.test)
        rows.append(
            Judged(
                other.title,
                name,
                other.metric,
                other.score(floats, floats, given.truth),
                other.score(floats, found, given.truth),
                noise_db(floats, found),
                noise_db(before, _answers(network, given.calibration)),
                network.report.integer_macs,
                _same_from_file(network.pack().to_bytes(), given.test[:2], [x[:2] for x in found]),
                tuple(f"{row.name}: {row.reason}" for row in network.report.kept_float),
            )
        )
    return rows


def _same_from_file(data: bytes, x: Tensor, wanted: Sequence[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(_answers(from_bytes(data), x), wanted, strict=True))


def _answers(model: Callable[[Tensor], Tensor | tuple[Tensor, ...]] | nn.Module, inputs: Tensor) -> list[Tensor]:
    """All answers, as one tensor for each result."""
    with torch.no_grad():
        parts = [model(part) for part in torch.split(inputs, AT_ONCE)]
    each = [part if isinstance(part, tuple) else (part,) for part in parts]
    return [torch.cat(result) for result in zip(*each, strict=True)]


def noise_db(wanted: Sequence[Tensor], got: Sequence[Tensor]) -> float:
    """Of the answer that has least."""
    found = []
    for a, b in zip(wanted, got, strict=True):
        signal, noise = (float(x.double().square().sum()) for x in (a, a - b))
        found.append(10.0 * math.log10(max(signal, 1e-300) / max(noise, 1e-300)))
    return min(found)


def judged_table(rows: Sequence[Judged]) -> str:
    """One line a network and setting; the one with the least noise on the calibration data has a star."""
    best = {
        row.network: max((r for r in rows if r.network == row.network), key=lambda r: r.calibration_db) for row in rows
    }
    header = ("network", "setting", "judged by", "float", "integers", "SNR dB", "on calibration", "MACs in integers")
    lines = [
        (
            row.network,
            f"{row.setting}{' *' if best[row.network] is row else ''}",
            row.metric,
            f"{row.float_score:.4g}",
            f"{row.score:.4g}",
            f"{row.noise_db:.1f}",
            f"{row.calibration_db:.1f}",
            f"{row.integer_macs:.1%}",
        )
        for row in rows
    ]
    return text_table(header, lines, right=(3, 4, 5, 6, 7))


def kept_in_float(rows: Sequence[Judged]) -> Iterator[str]:
    """A line for each step that stays float, once a network."""
    for name in dict.fromkeys(row.network for row in rows):
        first = next(row for row in rows if row.network == name)
        yield from (f"{name}, in float: {line}" for line in first.left_in_float)


JUDGED_LEGEND = (
    "Networks of others, judged by what they are for: PSNR against the pictures, all else against the float "
    "network's own answers. *: the setting with the least noise on the calibration data."
)
