# SPDX-License-Identifier: Apache-2.0
"""What the classifications of texts share: how words become numbers, their network and their common recipe."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from bittern import models
from bittern.bench.tracks.parts import SHOWN, Parts, tensor_parts
from bittern.bench.tracks.problem import Network, Problem
from bittern.data.labelled_texts import LabelledTexts, TextClasses
from bittern.data.words import SPECIAL, START, Vocabulary
from bittern.pretrained.answers import Classes
from bittern.pretrained.preparations import TextPreparation
from bittern.pretrained.use import Use
from bittern.quantizer import Method
from bittern.train import Cosine, Recipe

WIDTH, HEADS, BLOCKS = 64, 4, 2
WORD_WIDTH = 16
"""Of the small network's words, which are most of its bytes."""
SMALL_RATE = 1e-2
"""Of 0.003 and 0.01, with ReCU on held-out requests of `intents` after an epoch: 0.69 for 0.45."""
BATCH_SIZE = 50
LEARNING_RATE = 3e-3
WARMUP = 0.1
LEAST = 2
"""Times that a word occurs in the training part; rarer ones are unknown, so that "unknown" is learned too."""
SHOWN_CHARACTERS = 200


def text_problem(
    name: str,
    title: str,
    source: str,
    folder: str,
    classes: tuple[str, ...],
    read: Callable[[Path], TextClasses],
    *,
    words: int,
    context: int,
    licence: str | None = None,
) -> Problem:
    """The encoder on texts [batch, context] of a vocabulary of `words` numbers; read: the texts of a folder."""
    return Problem(
        name=name,
        title=title,
        source=source,
        networks={
            "text_encoder": Network(partial(_build, words, context, len(classes), None), "Transformer"),
            "text_encoder_small": Network(
                partial(_build, words, context, len(classes), WORD_WIDTH), "Transformer", SMALL_RATE
            ),
        },
        recipe=Recipe(epochs=1, batch_size=BATCH_SIZE, learning_rate=LEARNING_RATE, schedule=Cosine(warmup=WARMUP)),
        inputs=partial(_drawn, words, context),
        read=partial(_parts, read, folder, words, context),
        folder=folder,
        classes=classes,
        use=partial(_use, read, folder, words, context),
        licence=licence,
    )


def _build(words: int, context: int, classes: int, word_width: int | None, method: Method | None) -> nn.Module:
    return models.text_encoder(
        method, classes, words, context=context, width=WIDTH, heads=HEADS, blocks=BLOCKS, word_width=word_width
    )


def _drawn(words: int, context: int, count: int) -> Tensor:
    """Random texts, as long as they may be."""
    tokens = torch.randint(SPECIAL, words, (count, context))
    tokens[:, 0] = START
    return tokens


def _parts(
    read: Callable[[Path], TextClasses],
    folder: str,
    words: int,
    context: int,
    data: Path | None,
    train_size: int | None,
) -> Parts:
    """The vocabulary is that of the training part alone, all of it. Raises: ValueError."""
    assert data is not None  # Problem.load has looked
    texts = read(data / folder)
    vocabulary = _vocabulary(texts, words)

    def tensors(part: LabelledTexts) -> tuple[Tensor, Tensor]:
        return vocabulary.encode(part.texts, context), part.labels

    return tensor_parts(
        tensors(texts.train),
        tensors(texts.test),
        train_size,
        [text[:SHOWN_CHARACTERS] for text in texts.test.texts[:SHOWN]],
        held_out=None if texts.validation is None else tensors(texts.validation),
    )


def _vocabulary(texts: TextClasses, words: int) -> Vocabulary:
    return Vocabulary.of(texts.train.texts, size=words - SPECIAL, least=LEAST)


def _use(read: Callable[[Path], TextClasses], folder: str, words: int, context: int, data: Path | None) -> Use:
    assert data is not None  # Problem.load has looked
    texts = read(data / folder)
    return Use(texts.classes, TextPreparation(_vocabulary(texts, words), context), Classes())
