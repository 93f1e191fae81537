# SPDX-License-Identifier: Apache-2.0
"""The tracks of the benchmark."""

from __future__ import annotations

from bittern.bench.tracks.corruption_robustness import CorruptionRobustness
from bittern.bench.tracks.hardware_inference import HardwareInference
from bittern.bench.tracks.learning_task import LearningTask
from bittern.bench.tracks.neural_architecture import NeuralArchitecture
from bittern.bench.tracks.theoretical_complexity import TheoreticalComplexity
from bittern.bench.tracks.training_consumption import TrainingConsumption
from bittern.bench.trials.track import Track

ALL: tuple[type[Track], ...] = (
    LearningTask,
    NeuralArchitecture,
    CorruptionRobustness,
    TrainingConsumption,
    TheoreticalComplexity,
    HardwareInference,
)
"""In the order in which readers see them."""
