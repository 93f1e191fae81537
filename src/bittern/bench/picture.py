# SPDX-License-Identifier: Apache-2.0
"""The README's picture: what one image, one optimizer step and one parameter cost, from the committed results.

`python -m bittern.bench.picture` writes docs/picture.svg anew from docs/results/speed.json and optim_speed.json; a test
fails when it is stale. Plain SVG by hand, so that the same numbers give the same bytes with any plotting library.
"""

from __future__ import annotations

import json
from html import escape
from pathlib import Path
from typing import Any, NamedTuple

from bittern._files import write_atomically

ROOT = Path(__file__).parents[3]
RESULTS = ROOT / "docs" / "results"
PICTURE = ROOT / "docs" / "picture.svg"
NETWORK, TWIN = "Bi-Real-18, 224 x 224", "ResNet-18 shape"
STEP = "one tensor, 24,999,936, 1 thread"
FLOAT_ADAM_BYTES = 8.0
"""Two float32 states a parameter."""
OURS, THEIRS, INK, FAINT = "#0f766e", "#9ca3af", "#374151", "#6b7280"
WIDTH, LABELS, BAR, GAP, HEAD = 800, 250, 20, 8, 44
ROOM = 380
"""Length of a panel's longest bar; what follows it is room for its number."""


class Bar(NamedTuple):
    """One row of a panel."""

    label: str
    value: float
    ours: bool


class Panel(NamedTuple):
    """Bars of one unit; the shortest is best."""

    title: str
    unit: str
    bars: tuple[Bar, ...]


def panels(speed: dict[str, Any], optim: dict[str, Any]) -> tuple[Panel, ...]:
    """What is drawn, from the two result files. Raises: KeyError when a file lacks a row that the picture shows."""
    return (
        Panel("one image, binary ResNet-18 against its float shape, 1 thread", "ms", _latencies(speed)),
        Panel("one AdamW step, 25 million parameters, 1 thread", "ms", _steps(optim)),
        Panel("AdamW states, for each parameter", "bytes", _states(optim)),
    )


def _latencies(speed: dict[str, Any]) -> tuple[Bar, ...]:
    rows = {r["peer"]: r for r in speed["rows"] if (r["network"], r["twin"], r["threads"]) == (NETWORK, TWIN, 1)}
    peers = ("torch fp32", "ONNX Runtime fp32", "ONNX Runtime int8 QDQ")
    theirs = tuple(Bar(peer, rows[peer]["peer_latency_us"]["median"] / 1e3, False) for peer in peers)
    return (*theirs, Bar("Bittern, packed, exact", rows["torch fp32"]["latency_us"]["median"] / 1e3, True))


def _steps(optim: dict[str, Any]) -> tuple[Bar, ...]:
    rows = {r["subject"]: r for r in optim["rows"]}
    ours = rows[f"AdamW, 8-bit state: {STEP}"]
    return (
        Bar("bitsandbytes AdamW8bit", rows[f"bitsandbytes AdamW8bit: {STEP}"]["latency_us"]["median"] / 1e3, False),
        Bar("torch AdamW, fused, 32 bits", ours["baseline_latency_us"]["median"] / 1e3, False),
        Bar("Bittern AdamW, 8 bits", ours["latency_us"]["median"] / 1e3, True),
    )


def _states(optim: dict[str, Any]) -> tuple[Bar, ...]:
    figures = {figure["subject"]: figure["value"] for figure in optim["figures"]}
    return (
        Bar("32 bits", FLOAT_ADAM_BYTES, False),
        Bar("Bittern, 8 bits", figures["AdamW, 8-bit state: state"], True),
    )


def drawing(parts: tuple[Panel, ...]) -> str:
    """The SVG file."""
    body: list[str] = []
    y = 0
    for panel in parts:
        body.append(_text(0, y + 28, f"{panel.title}, {panel.unit}", INK, weight="bold"))
        y += HEAD
        longest = max(bar.value for bar in panel.bars)
        for bar in panel.bars:
            body += _row(y, bar, longest)
            y += BAR + GAP
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="-12 0 {WIDTH} {y + GAP}" font-family="sans-serif">'
    paper = f'<rect x="-12" width="{WIDTH}" height="{y + GAP}" fill="#ffffff"/>'
    return "\n".join((head, paper, *body, "</svg>", ""))


def _row(y: int, bar: Bar, longest: float) -> list[str]:
    length = ROOM * bar.value / longest
    color = OURS if bar.ours else THEIRS
    number = f"{bar.value:.3g}" if bar.value < 100 else f"{bar.value:.0f}"
    return [
        _text(LABELS - 8, y + 15, bar.label, OURS if bar.ours else FAINT, anchor="end"),
        f'<rect x="{LABELS}" y="{y}" width="{length:.1f}" height="{BAR}" fill="{color}"/>',
        _text(LABELS + length + 6, y + 15, number, INK),
    ]


def _text(x: float, y: int, text: str, color: str, *, anchor: str = "start", weight: str = "normal") -> str:
    style = f'fill="{color}" font-size="15" font-weight="{weight}" text-anchor="{anchor}"'
    return f'<text x="{x:.1f}" y="{y}" {style}>{escape(text)}</text>'


def from_results() -> str:
    """The picture of the committed results."""
    speed, optim = (json.loads((RESULTS / f"{name}.json").read_text()) for name in ("speed", "optim_speed"))
    return drawing(panels(speed, optim))


if __name__ == "__main__":
    write_atomically(PICTURE, from_results().encode())
