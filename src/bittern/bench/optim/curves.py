# SPDX-License-Identifier: Apache-2.0
"""Training curves of `bittern bench optim-training` as one drawing: a panel per task, a line per storage."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any

from bittern.bench.core.drawing import INK, LINE

Curves = Mapping[str, Sequence[Sequence[float]]]
"""Bits of the states -> one curve per seed."""
COLORS = {"32": "#6b7280", "8": "#0f766e", "8, stochastic": "#7c3aed", "4": "#1d4ed8", "4, nearest": "#b45309"}


def curves_svg(tasks: Mapping[str, Curves], steps: Mapping[str, int]) -> bytes:
    """An SVG file: training loss over steps; thick the mean over seeds, thin each of them.

    tasks: title -> curves. steps: title -> steps that a curve covers.
    """
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "bittern", "font.size": 9}):
        figure = Figure(figsize=(3.6 * max(1, len(tasks)), 3.0), layout="constrained")
        for i, (title, curves) in enumerate(tasks.items()):
            _panel(figure.add_subplot(1, len(tasks), i + 1), title, curves, steps[title], legend=i == 0)
        buffer = io.BytesIO()
        figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()


def _panel(axes: Any, title: str, curves: Curves, steps: int, *, legend: bool) -> None:
    for storage, seeds in curves.items():
        places = [steps * (k + 0.5) / len(seeds[0]) for k in range(len(seeds[0]))]
        for one in seeds:
            axes.plot(places, one, color=COLORS[storage], linewidth=0.5, alpha=0.4)
        mean = [sum(values) / len(values) for values in zip(*seeds, strict=True)]
        axes.plot(
            places,
            mean,
            color=COLORS[storage],
            linewidth=1.5,
            label=_words(storage),
        )
    axes.set_title(title, fontsize=9, color=INK)
    axes.set_xlabel("step", color=INK)
    axes.set_ylabel("training loss, nats", color=INK)
    axes.grid(axis="y", color=LINE, linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if legend:
        axes.legend(frameon=False, title="optimizer states")


def _words(storage: str) -> str:
    """As "8 bits, stochastic" of "8, stochastic"."""
    bits, comma, rounding = storage.partition(",")
    return f"{bits} bits{comma}{rounding}"
