# SPDX-License-Identifier: Apache-2.0
"""Training: recipes, the loop with exact resume, distillation, two stages. Heavy libraries load inside `train`."""

from __future__ import annotations

from bittern.train.checkpoint import CheckpointError, load_weights
from bittern.train.evaluate import evaluate
from bittern.train.history import Epoch, History
from bittern.train.loop import DivergedError, train
from bittern.train.loss import CrossEntropy, Distillation, SquaredHinge
from bittern.train.real_weights import RealWeights
from bittern.train.recipe import Recipe
from bittern.train.schedule import Constant, Cosine, Exponential, Linear, Steps
from bittern.train.tasks.classification import Classification
from bittern.train.tasks.detection import Detection
from bittern.train.tasks.next_token import NextToken
from bittern.train.tasks.task import Evaluation, Measured, Task
from bittern.train.two_stage import TwoStageHistory, train_two_stage

__all__ = [
    "CheckpointError",
    "Classification",
    "Constant",
    "Cosine",
    "CrossEntropy",
    "Detection",
    "Distillation",
    "DivergedError",
    "Epoch",
    "Evaluation",
    "Exponential",
    "History",
    "Linear",
    "Measured",
    "NextToken",
    "RealWeights",
    "Recipe",
    "SquaredHinge",
    "Steps",
    "Task",
    "TwoStageHistory",
    "evaluate",
    "load_weights",
    "train",
    "train_two_stage",
]
