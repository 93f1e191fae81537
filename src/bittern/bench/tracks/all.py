# SPDX-License-Identifier: Apache-2.0
"""The tracks of the benchmark."""

from __future__ import annotations

from bittern.bench.tracks.learning_task import LearningTask
from bittern.bench.trials.track import Track

ALL: tuple[type[Track], ...] = (LearningTask,)
"""In the order in which readers see them."""
