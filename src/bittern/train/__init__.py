# SPDX-License-Identifier: Apache-2.0
"""Training: recipes, the loop with exact resume, distillation, two stages. Heavy libraries load inside `train`."""

from __future__ import annotations

from bittern.train.added.added_loss import AddedLoss, Matching, Seen
from bittern.train.added.attention import AttentionMatching
from bittern.train.added.directions import DirectionMatching
from bittern.train.added.hidden import HiddenMatching
from bittern.train.added.logits import LogitsMatching
from bittern.train.added.weights import KurtosisRegularizer, SignRegularizer, WaveRegularizer
from bittern.train.checkpoint import CheckpointError, load_weights
from bittern.train.evaluate import evaluate
from bittern.train.exit_history import ExitHistory
from bittern.train.history import Epoch, History
from bittern.train.loop import DivergedError, train
from bittern.train.loss import CrossEntropy, Distillation, SquaredHinge, SumOfSquares
from bittern.train.real_weights import RealWeights, start_from, tanh_operands, use_real_weights, use_tanh_operands
from bittern.train.recipe import Recipe
from bittern.train.schedule import Constant, Cosine, Exponential, Linear, Steps
from bittern.train.sequences import SequenceRecipe, perplexity, train_sequences
from bittern.train.stages import Stage, train_stages
from bittern.train.tasks.classification import Classification
from bittern.train.tasks.detection import Detection
from bittern.train.tasks.many_exits import ManyExits
from bittern.train.tasks.next_token import NextToken
from bittern.train.tasks.task import Evaluation, Measured, Task
from bittern.train.tasks.with_losses import WithLosses
from bittern.train.two_stage import TwoStageHistory, train_two_stage

ADDED_LOSSES: tuple[type[AddedLoss], ...] = (
    LogitsMatching,
    AttentionMatching,
    DirectionMatching,
    HiddenMatching,
    SignRegularizer,
    KurtosisRegularizer,
    WaveRegularizer,
)
"""Every loss that comes with bittern, for `Recipe.losses`."""

__all__ = [
    "ADDED_LOSSES",
    "AddedLoss",
    "AttentionMatching",
    "CheckpointError",
    "Classification",
    "Constant",
    "Cosine",
    "CrossEntropy",
    "Detection",
    "DirectionMatching",
    "Distillation",
    "DivergedError",
    "Epoch",
    "Evaluation",
    "ExitHistory",
    "Exponential",
    "HiddenMatching",
    "History",
    "KurtosisRegularizer",
    "Linear",
    "LogitsMatching",
    "ManyExits",
    "Matching",
    "Measured",
    "NextToken",
    "RealWeights",
    "Recipe",
    "Seen",
    "SequenceRecipe",
    "SignRegularizer",
    "SquaredHinge",
    "Stage",
    "Steps",
    "SumOfSquares",
    "Task",
    "TwoStageHistory",
    "WaveRegularizer",
    "WithLosses",
    "evaluate",
    "load_weights",
    "perplexity",
    "start_from",
    "tanh_operands",
    "train",
    "train_sequences",
    "train_stages",
    "train_two_stage",
    "use_real_weights",
    "use_tanh_operands",
]
