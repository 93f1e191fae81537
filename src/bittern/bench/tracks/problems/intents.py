# SPDX-License-Identifier: Apache-2.0
"""Intents: what somebody wants of a spoken assistant, 150 kinds of requests."""

from __future__ import annotations

from pathlib import Path

from bittern.bench.tracks.parts import Parts
from bittern.bench.tracks.problem import Problem
from bittern.bench.tracks.problems._texts import text_inputs, text_networks, text_parts, text_recipe
from bittern.data.clinc150 import INTENTS as CLASSES
from bittern.data.clinc150 import clinc150

FOLDER = "clinc150_intents"
WORDS = 3000
"""Numbers of the vocabulary; 2,817 words occur twice in the training part."""
CONTEXT = 24
"""The start and 23 words, which 99 % of the requests have at most."""


def _read(data: Path | None, train_size: int | None) -> Parts:
    assert data is not None  # Problem.load has looked
    return text_parts(clinc150(data / FOLDER), WORDS, CONTEXT, train_size)


INTENTS = Problem(
    name="intents",
    title="Intents (CLINC150)",
    source="22,500 requests of 150 kinds (Larson et al., arXiv 1909.02027), CC BY 3.0; official parts, without "
    "requests that are out of scope",
    networks=text_networks(WORDS, CONTEXT, len(CLASSES)),
    recipe=text_recipe(),
    inputs=text_inputs(WORDS, CONTEXT),
    read=_read,
    folder=FOLDER,
    classes=CLASSES,
)
