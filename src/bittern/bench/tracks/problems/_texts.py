# SPDX-License-Identifier: Apache-2.0
"""What the classifications of texts share: how words become numbers, their network and their common recipe."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import torch
from torch import Tensor, nn

from bittern import models
from bittern.bench.tracks.parts import SHOWN, Parts, tensor_parts
from bittern.bench.tracks.problem import Network
from bittern.data.labelled_texts import LabelledTexts, TextClasses
from bittern.data.words import SPECIAL, START, Vocabulary
from bittern.quantizer import Method
from bittern.train import Cosine, Recipe

WIDTH, HEADS, BLOCKS = 64, 4, 2
BATCH_SIZE = 50
LEARNING_RATE = 3e-3
WARMUP = 0.1
LEAST = 2
"""Times that a word occurs in the training part; rarer ones are unknown, so that "unknown" is learned too."""
SHOWN_CHARACTERS = 200


def text_networks(words: int, context: int, classes: int) -> Mapping[str, Network]:
    """The encoder for texts [batch, context] of a vocabulary of `words` numbers."""
    return {"text_encoder": Network(partial(_build, words, context, classes), "Transformer")}


def _build(words: int, context: int, classes: int, method: Method | None) -> nn.Module:
    return models.text_encoder(method, classes, words, context=context, width=WIDTH, heads=HEADS, blocks=BLOCKS)


def text_inputs(words: int, context: int) -> Callable[[int], Tensor]:
    """Random texts, as long as they may be."""
    return partial(_drawn, words, context)


def _drawn(words: int, context: int, count: int) -> Tensor:
    tokens = torch.randint(SPECIAL, words, (count, context))
    tokens[:, 0] = START
    return tokens


def text_parts(data: TextClasses, words: int, context: int, train_size: int | None) -> Parts:
    """The vocabulary is that of the training part alone, all of it. Raises: ValueError."""
    vocabulary = Vocabulary.of(data.train.texts, size=words - SPECIAL, least=LEAST)

    def tensors(part: LabelledTexts) -> tuple[Tensor, Tensor]:
        return vocabulary.encode(part.texts, context), part.labels

    return tensor_parts(
        tensors(data.train),
        tensors(data.test),
        train_size,
        [text[:SHOWN_CHARACTERS] for text in data.test.texts[:SHOWN]],
        held_out=None if data.validation is None else tensors(data.validation),
    )


def text_recipe() -> Recipe:
    """AdamW with a warm-up and a cosine."""
    return Recipe(epochs=1, batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE, schedule=Cosine(warmup=WARMUP))
