# SPDX-License-Identifier: Apache-2.0
"""How readers are told a metric: its title, and its values in the unit that its name says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from bittern.bench.core.seeds import Estimate
from bittern.bench.core.words import duration, size
from bittern.bench.tracks import corruptions

NONE_YET = "–"
SHARES = ("accuracy", "score", "share", "precision", "recall", "f1", "ap", *corruptions.ALL)
"""Ends of names of shares in [0, 1]; behind a corruption's stands its severity, or nothing."""
TIMES = ("latency", "time", "s")
COUNTS = ("ops", "bits", "parameters", "products", "weights", "numbers", "epochs", "steps")
FLAGS = ("exact", "diverged")
WORDS = {"ops": "OPs", "ap": "AP", "s": ""}


def title(name: str) -> str:
    """ "packed_bytes" -> "Packed bytes", "step_s" -> "Step", "ops" -> "OPs"."""
    words = [WORDS.get(word, word) for word in name.split("_")]
    text = " ".join(word for word in words if word)
    return text[:1].upper() + text[1:]


def severity_of(name: str) -> str | None:
    """Of the accuracy under one severity of a corruption, "fog_3": the corruption's name."""
    corruption, _, severity = name.rpartition("_")
    return corruption if corruption in corruptions.ALL and severity.isdecimal() else None


def found_text(metrics: Mapping[str, float]) -> str:
    """All of a trial's, the severities of a corruption behind one name."""
    by_name: dict[str, list[str]] = {}
    for name, value in metrics.items():
        corruption = severity_of(name)
        label = title(name).lower() if corruption is None else f"{title(corruption).lower()} by severity"
        by_name.setdefault(label, []).append(value_text(name, value))
    return ", ".join(f"{label} {' '.join(texts)}" for label, texts in by_name.items())


def value_text(name: str, value: float) -> str:
    """One value, with its unit."""
    if name in FLAGS:
        return "yes" if value == 1 else "no" if value == 0 else f"{100 * value:.0f}%"
    if is_share(name):
        return f"{100 * value:.1f}%"
    if _ends(name, ("bytes",)):
        return size(round(value))
    if _ends(name, TIMES):
        return seconds_text(value)
    if _ends(name, ("speedup",)):
        return f"{value:.2f}×"
    return count_text(value) if _ends(name, COUNTS) else f"{value:.4g}"


def estimate_text(name: str, estimate: Estimate) -> str:
    """Mean ± standard deviation over seeds; the mean alone where there are fewer than three, or all are equal."""
    if estimate.shown_std is None or name in FLAGS:
        return value_text(name, estimate.mean)
    if is_share(name):
        return f"{100 * estimate.mean:.1f} ± {100 * estimate.shown_std:.1f}%"
    if estimate.mean == 0:
        return f"0 ± {value_text(name, estimate.shown_std)}"
    return f"{value_text(name, estimate.mean)} ± {100 * estimate.shown_std / abs(estimate.mean):.1g}%"


def is_share(name: str) -> bool:
    return _ends(severity_of(name) or name, SHARES)


def _ends(name: str, ends: Sequence[str]) -> bool:
    """Whether a name, or what stands in front of ": " in it, is one of these or ends with one behind "_"."""
    what = name.split(":")[0]
    return any(what == end or what.endswith(f"_{end}") for end in ends)


def points_text(gap: Estimate) -> str:
    """A difference of shares, in points of a hundred, with its sign."""
    return signed(f"{100 * gap.mean:+.1f}") + (f" ± {100 * gap.shown_std:.1f}" if gap.shown_std else "")


def times_text(ratio: Estimate) -> str:
    """A ratio: "0.261×"."""
    return f"{ratio.mean:.3g}×" + (f" ± {ratio.shown_std:.1g}" if ratio.shown_std else "")


def signed(number: str) -> str:
    """With the minus sign of typography, which screen readers read."""
    return number.replace("-", "−")


def seconds_text(seconds: float) -> str:
    if seconds < 1:
        return duration(1e6 * seconds)
    if seconds < 120:
        return f"{seconds:.3g} s"
    return f"{seconds / 60:.3g} min" if seconds < 7200 else f"{seconds / 3600:.3g} h"


def count_text(value: float) -> str:
    """12,345 or 12.3 M."""
    for unit, factor in (("G", 1e9), ("M", 1e6)):
        if abs(value) >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:,.0f}" if abs(value) >= 100 or value == round(value) else f"{value:.3g}"
