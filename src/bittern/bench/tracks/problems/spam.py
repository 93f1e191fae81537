# SPDX-License-Identifier: Apache-2.0
"""Spam: e-mails that somebody wanted or not."""

from __future__ import annotations

from pathlib import Path

from bittern.bench.tracks.parts import Parts
from bittern.bench.tracks.problem import Problem
from bittern.bench.tracks.problems._texts import text_inputs, text_networks, text_parts, text_recipe
from bittern.data.spam_assassin import CLASSES, spam_assassin

FOLDER = "spam_assassin"
WORDS = 5000
"""Numbers of the vocabulary: the most frequent words of the training part."""
CONTEXT = 96
"""The start and the first 95 words, with which the subject begins."""


def _read(data: Path | None, train_size: int | None) -> Parts:
    assert data is not None  # Problem.load has looked
    return text_parts(spam_assassin(data / FOLDER), WORDS, CONTEXT, train_size)


SPAM = Problem(
    name="spam",
    title="Spam (SpamAssassin)",
    source="6,046 e-mails of 2002 and 2003 (SpamAssassin's public corpus, PDDL 1.0); every fifth of each of its "
    "folders is the test part, there is no official one",
    networks=text_networks(WORDS, CONTEXT, len(CLASSES)),
    recipe=text_recipe(),
    inputs=text_inputs(WORDS, CONTEXT),
    read=_read,
    folder=FOLDER,
    classes=CLASSES,
)
