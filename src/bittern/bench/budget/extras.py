# SPDX-License-Identifier: Apache-2.0
"""What the tracks beside the learning task cost of a budget, from what was measured of each method."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from bittern.bench.budget.halving import Extra
from bittern.bench.tracks import corruptions
from bittern.bench.tracks.corruption_robustness import CorruptionRobustness
from bittern.bench.tracks.hardware_inference import BUDGET_S as ENGINE_S
from bittern.bench.tracks.hardware_inference import HardwareInference
from bittern.bench.tracks.learning_task import LearningTask
from bittern.bench.tracks.neural_architecture import NeuralArchitecture
from bittern.bench.tracks.problem import Problem
from bittern.bench.tracks.theoretical_complexity import TheoreticalComplexity
from bittern.bench.tracks.training_consumption import BUDGET_S as STEPS_S
from bittern.bench.tracks.training_consumption import OPTIMIZERS, SCHEDULES, TrainingConsumption
from bittern.bench.trials.track import Choice, Track
from bittern.bench.trials.trial import TWIN, Result

SET_UP_S = 2.0
"""Of an engine, to export a network for it."""
CORRUPTING_S = 10e-6
"""To make all corruptions of one number of a picture, on one thread (AMD EPYC, CIFAR-10's size: 25 s for 1,000)."""
LEAST_S = 0.5
"""Of whatever builds a network and looks at it."""


def extras_of(
    tracks: Sequence[Track], problem: Problem, choice: Choice, costs: Mapping[str, Result]
) -> tuple[tuple[Extra, ...], tuple[str, ...]]:
    """(those that can be asked, sentences on those that cannot). choice: of one task and one network."""
    found: list[Extra] = []
    dropped: list[str] = []
    for track in tracks:
        if isinstance(track, LearningTask):
            continue
        if isinstance(track, NeuralArchitecture):
            dropped.append(f"{track.name}: a budget is for one network; it compares several.")
            continue
        planned = track.plan(choice)
        dropped += () if planned.trials else planned.dropped
        seconds = _seconds_of(track)
        if seconds is None:
            dropped.append(f"{track.name}: nothing is known of its costs, so no budget holds it.")
        elif planned.trials:
            grid = len(SCHEDULES) * sum(len(rates) for _, rates in OPTIMIZERS.values())
            trainings = grid if isinstance(track, TrainingConsumption) else 0
            each = {name: seconds(one.metrics) for name, one in costs.items()}
            if isinstance(track, CorruptionRobustness):
                each[TWIN] += track.images * problem.inputs(1).numel() * CORRUPTING_S  # once for all
            found.append(Extra(track.name, each, trainings))
    return tuple(found), tuple(dropped)


def _seconds_of(track: Track) -> Callable[[Mapping[str, float]], float] | None:
    """What a method's trials of the track take, of the metrics of `Measured`."""
    if isinstance(track, TheoreticalComplexity):
        return lambda cost: LEAST_S + cost["start"]
    if isinstance(track, HardwareInference):
        engines = sum(peer.missing() is None for peer in track.peers)
        return lambda cost: LEAST_S + cost["start"] + cost["pack"] + engines * (2 * ENGINE_S + SET_UP_S)
    if isinstance(track, TrainingConsumption):
        return lambda cost: LEAST_S + 4 * cost["start"] + 2 * STEPS_S
    if isinstance(track, CorruptionRobustness):
        images = track.images
        count = len(corruptions.ALL) * corruptions.SEVERITIES + 1
        return lambda cost: LEAST_S + cost["start"] + images * count * cost["example"]
    return None
