# SPDX-License-Identifier: Apache-2.0
"""The public corpus of SpamAssassin from an archive: e-mails that are spam or not.

spam_assassin.npz: text, uint8, lines of UTF-8 joined by newlines; label, uint8, 1 for spam; group, uint8: which of the
corpus's five folders a mail is from.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from bittern.data.labelled_texts import LabelledTexts, TextClasses, file_in, lines_of
from bittern.data.npz import read_npz

FILE = "spam_assassin.npz"
CLASSES = ("ham", "spam")
BYTES = np.dtype(np.uint8)
TEST_EVERY = 5


def spam_assassin(folder: str | Path) -> TextClasses:
    """Read the mails; there is no official split: of each group, in its order, mail 0, 5, 10, ... is the test part.

    A thread of answers may lie on both sides, which flatters every score.

    Raises: FileNotFoundError; ValueError for a damaged file.
    Source: spamassassin.apache.org/old/publiccorpus, mails of 2002 and 2003.
    """
    path = file_in("spam_assassin", folder, FILE)
    arrays = read_npz(path, dict.fromkeys(("text", "label", "group"), BYTES))
    if len(arrays["group"]) != len(arrays["label"]):
        raise ValueError(
            f"spam_assassin: {path} must have a group for each label; got {len(arrays['group'])} and "
            f"{len(arrays['label'])}; fetch it again"
        )
    texts = lines_of(f"spam_assassin: text of {path}", arrays["text"])
    whole = LabelledTexts(texts, torch.from_numpy(arrays["label"]).long())
    test = _place_in_group(torch.from_numpy(arrays["group"]).long()) % TEST_EVERY == 0
    return TextClasses("spam_assassin", CLASSES, whole.at(~test), whole.at(test))


def _place_in_group(group: Tensor) -> Tensor:
    """Of each mail, how many of its group come before it."""
    place = torch.empty_like(group)
    for number in sorted(set(group.tolist())):
        members = group == number
        place[members] = torch.arange(int(members.sum()))
    return place
