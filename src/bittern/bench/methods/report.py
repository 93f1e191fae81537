# SPDX-License-Identifier: Apache-2.0
"""What `bittern bench methods` found: one row per training, and the page that shows them."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bittern import recipes
from bittern.bench.core.machine import Machine
from bittern.recipes import PaperRecipe

TWIN = "float twin"
"""Name of the row of the same network with float convolutions."""
NAMES = {"resnet20_cifar": "ResNet-20", "mlp": "An MLP"}
"""Networks as the literature calls them."""
PAPER = "paper of "
"""Before a method's name, in `Setting.recipe`."""
_COMMON = (
    "The same recipe for every method, as long as the setting above says: compare the rows with each other, not",
    "with figures of papers, which train for hundreds of epochs. Its learning rate was picked by short trials of",
    "the float twin, BNN and ReCU on Fashion-MNIST that were scored on 5,000 held-out training images; no test image",
    "had a say.",
)
_PAPERS = (
    "Each method follows the recipe of its paper, scaled to these epochs as the list below says: few epochs do",
    "not show what a recipe of hundreds is worth, and the float twin follows the recipe of this benchmark. Nothing was",
    "chosen by looking at results. What the authors reach stands beside each, on other data with larger networks.",
)
VERIFIED = 200
"""Test images on which packed model and training graph are compared accumulator by accumulator."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What determines the figures, besides the machine's rounding."""

    command: str
    """That repeats the run."""
    dataset: str
    image_shape: tuple[int, ...]
    train_size: int
    """Images trained on, drawn once from the training part."""
    train_available: int
    test_size: int
    model: str
    epochs: int
    batch_size: int
    seeds: tuple[int, ...]
    recipe: tuple[tuple[str, ...], ...]
    """(name, value) of each field of the common recipe but its seed; of the papers' recipes: `paper_setting`."""


@dataclass(frozen=True, slots=True)
class Trained:
    """One training."""

    method: str
    seed: int
    train_accuracy: float
    """Share in [0, 1]; over the last epoch, while the weights changed."""
    test_accuracy: float
    """Share in [0, 1]; of the packed model (of the float twin: of the model), on the whole test set."""
    exact: bool | None
    """Whether all accumulators and logits of the packed model agree; None: the float twin has nothing to pack."""
    file_bytes: int
    """Of the packed file; of the float twin: its parameters."""
    seconds: float
    """Of the training alone, with whatever else the machine did then: no measure of speed, and not on the page."""


@dataclass(frozen=True, slots=True)
class MethodsReport:
    """All trainings finished so far; `page()` shows them."""

    setting: Setting
    machine: Machine
    runs: tuple[Trained, ...]

    @property
    def papers(self) -> dict[str, str]:
        """How far each method's own recipe was followed; empty where all had one recipe."""
        pairs = [(str(key), str(value)) for key, value in self.setting.recipe]
        return {key.removeprefix(PAPER): value for key, value in pairs if key.startswith(PAPER)}

    def of(self, method: str) -> tuple[Trained, ...]:
        return tuple(r for r in self.runs if r.method == method)

    def gap_points(self, method: str) -> float | None:
        """Test accuracy of the float twin minus that of `method`, in percentage points, means over the same seeds."""
        own = {r.seed: r.test_accuracy for r in self.of(method)}
        twin = {r.seed: r.test_accuracy for r in self.of(TWIN)}
        shared = own.keys() & twin.keys()
        if method == TWIN or not shared:
            return None
        return 100.0 * statistics.fmean(twin[s] - own[s] for s in shared)

    def page(self) -> str:
        """The table with what it was measured by."""
        return _page(self)


def paper_setting(
    common: tuple[tuple[str, ...], ...], records: Mapping[str, PaperRecipe]
) -> tuple[tuple[str, ...], ...]:
    """The `recipe` of a setting in which the methods follow their papers, and the float twin the common recipe."""
    own = tuple((f"{PAPER}{method}", str(record)) for method, record in records.items())
    return tuple((f"{TWIN}: {name}", value) for name, value in common) + own


def _page(report: MethodsReport) -> str:
    s, m = report.setting, report.machine
    share = "All" if s.train_size == s.train_available else f"{s.train_size:,} of the {s.train_available:,}"
    steps = s.epochs * (s.train_size // s.batch_size)
    kind = "'s" if report.papers else ""
    lines = [
        f"# {NAMES.get(s.model, s.model)} on {s.dataset}: every method, "
        f"{'its paper' if report.papers else 'one'}{kind} recipe",
        "",
        f"{share} training images of {'x'.join(str(n) for n in s.image_shape)}, {s.epochs} epochs, "
        f"{'' if report.papers else f'{steps:,} steps, '}"
        f"{s.test_size:,} test images, seeds {', '.join(str(seed) for seed in s.seeds)}.",
        *(_PAPERS if report.papers else _COMMON),
    ]
    if "jpeg" in s.dataset:
        lines.append("The images are lossy JPEGs of the data set, which alone changes the accuracy.")
    lines += ["", *_table(report), "", *_notes(), ""]
    lines += [f"- {text}. {_published(method)}" for method, text in report.papers.items()]
    lines += ["", "```", s.command, "```", ""]
    common = [(str(key).removeprefix(f"{TWIN}: "), value) for key, value in s.recipe if not str(key).startswith(PAPER)]
    whose = "Recipe of the float twin" if report.papers else "Recipe"
    lines += [f"Machine: {m}.", "", f"{whose}: " + ", ".join(f"{key} {value}" for key, value in common) + ".", ""]
    return "\n".join(lines)


def _published(method: str) -> str:
    """What others reach, beside whose recipe ours is a short one."""
    found = next((record.published for record in recipes.ALL if record.name == method.partition("(")[0]), ())
    return f"Published: {'; '.join(map(str, found))}." if found else "No published figure was read."


def _notes() -> list[str]:
    return [
        "Train accuracy is over the last epoch, while the weights changed. Test accuracy is that of the packed model "
        "on the whole test set. Gap: percentage points below the float twin. Exact: every integer accumulator of the "
        f"packed model equals the training graph's on {VERIFIED} test images, and so do the logits. Bytes: the packed "
        "file; of the float twin, its float32 parameters.",
    ]


def _table(report: MethodsReport) -> list[str]:
    lines = [
        "| method | train accuracy | test accuracy | gap | exact | bytes |",
        "|---|--:|--:|--:|:-:|--:|",
    ]
    for method in dict.fromkeys(r.method for r in report.runs):
        rows = report.of(method)
        gap = report.gap_points(method)
        exact = "-" if rows[0].exact is None else "yes" if all(r.exact for r in rows) else "NO"
        cells = (
            method,
            _percent([r.train_accuracy for r in rows]),
            _percent([r.test_accuracy for r in rows]),
            "" if gap is None else f"{gap:.1f}",
            exact,
            f"{max(r.file_bytes for r in rows):,}",
        )
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _percent(shares: Sequence[float]) -> str:
    """Mean, and the standard deviation where there are several."""
    mean = f"{100.0 * statistics.fmean(shares):.1f} %"
    return mean if len(shares) == 1 else f"{mean} ± {100.0 * statistics.stdev(shares):.1f}"
