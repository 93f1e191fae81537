# SPDX-License-Identifier: Apache-2.0
"""Where a run writes what it measures: log.csv, TensorBoard event files, a progress bar."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from bittern._files import write_atomically
from bittern.train.events import EventFile
from bittern.train.history import ACCURACY, SKIPPED, Epoch, columns

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

CSV_NAME = "log.csv"
TENSORBOARD_NAME = "tensorboard"


def write_csv(folder: Path, rows: list[Epoch], metric: str = ACCURACY) -> None:
    """Write all rows to log.csv, at once: a resumed run leaves no row twice.

    metric: what their scores are called. Parts of the loss and what was watched have columns behind the others, empty
    where a row lacks them. Raises: OSError.
    """
    text = io.StringIO(newline="")
    known = set(columns(metric))
    behind = dict.fromkeys(name for row in rows for name in row.named() if name not in known)
    writer = csv.DictWriter(text, (*columns(metric), *behind), restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(row.named() for row in rows)
    write_atomically(folder / CSV_NAME, text.getvalue().encode())


class Logs:
    """The logs of a run that stands at `step`: files in `folder` (None: none), and a bar when `progress`."""

    def __init__(self, folder: Path | None, step: int, total: int, progress: bool) -> None:
        self.folder = folder
        self._events = None if folder is None else EventFile(folder / TENSORBOARD_NAME, step + 1)
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        if progress:
            self._bar = _progress_bar()
            self._task = self._bar.add_task("train", total=total, completed=step, note="")

    def __enter__(self) -> Self:
        if self._bar is not None:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        if self._events is not None:
            self._events.close()

    def step(self, step: int, loss: float, learning_rate: float, watched: Mapping[str, float]) -> None:
        """watched: shares of this step by name, {} where nobody watches."""
        if self._events is not None:
            shares = {f"step/{name}": value for name, value in watched.items()}
            self._events.add(step, {"step/loss": loss, "step/learning_rate": learning_rate, **shares})
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=step)

    def epoch(self, rows: list[Epoch]) -> None:
        """Write the last row. Raises: OSError."""
        row = rows[-1]
        if self.folder is not None:
            write_csv(self.folder, rows, row.metric)
        if self._events is not None:
            # at the epoch's last step, because readers drop what a killed run wrote by its step
            measured = {
                name: value for name, value in row.named().items() if name.startswith(("train_", "test_", SKIPPED))
            }
            measured |= dict(row.watched)
            self._events.add(row.step, {f"epoch/{name}": value for name, value in measured.items()})
            self._events.flush()
        if self._bar is not None and self._task is not None:
            score = f"{row.test_score:.1%}" if row.metric.endswith(ACCURACY) else f"{row.test_score:.4g}"
            note = f"epoch {row.epoch}: loss {row.train_loss:.3f}, test {row.metric.replace('_', ' ')} {score}"
            self._bar.update(self._task, note=note)


def _progress_bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        console=Console(stderr=True),
    )
