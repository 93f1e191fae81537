# SPDX-License-Identifier: Apache-2.0
"""Intents: what somebody wants of a spoken assistant, 150 kinds of requests."""

from __future__ import annotations

from bittern.bench.tracks.problems._texts import text_problem
from bittern.data.clinc150 import INTENTS as CLASSES
from bittern.data.clinc150 import clinc150

FOLDER = "clinc150_intents"
WORDS = 2700
"""Numbers of the vocabulary: all but the rarest of the 2,817 words that occur twice in the training part."""
CONTEXT = 24
"""The start and 23 words, which 99 % of the requests have at most."""

INTENTS = text_problem(
    name="intents",
    title="Intents (CLINC150)",
    source="22,500 requests of 150 kinds (Larson et al., arXiv 1909.02027), CC BY 3.0; official parts, without "
    "requests that are out of scope",
    folder=FOLDER,
    classes=CLASSES,
    read=clinc150,
    words=WORDS,
    context=CONTEXT,
    licence="CC BY 3.0: S. Larson et al., An Evaluation Dataset for Intent Classification and Out-of-Scope "
    "Prediction, 2019",
)
