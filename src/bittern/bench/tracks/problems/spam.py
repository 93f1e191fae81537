# SPDX-License-Identifier: Apache-2.0
"""Spam: e-mails that somebody wanted or not."""

from __future__ import annotations

from bittern.bench.tracks.problems._texts import text_problem
from bittern.data.spam_assassin import CLASSES, spam_assassin

FOLDER = "spam_assassin"
WORDS = 5000
"""Numbers of the vocabulary: the most frequent words of the training part."""
CONTEXT = 96
"""The start and the first 95 words, with which the subject begins."""

SPAM = text_problem(
    name="spam",
    title="Spam (SpamAssassin)",
    source="6,046 e-mails of 2002 and 2003 (SpamAssassin's public corpus, PDDL 1.0); every fifth of each of its "
    "folders is the test part, there is no official one",
    folder=FOLDER,
    classes=CLASSES,
    read=spam_assassin,
    words=WORDS,
    context=CONTEXT,
)
