# SPDX-License-Identifier: Apache-2.0
"""The text of `bittern bench sequences`: a corpus as published, or files."""

from __future__ import annotations

from pathlib import Path

from torch import Tensor

from bittern.data.corpus import Level, penn_treebank, read_corpus, wikitext2
from bittern.data.text import read_characters, read_words

CORPORA = {"ptb.train.txt": ("Penn Treebank", penn_treebank), "wiki.train.tokens": ("WikiText-2", wikitext2)}
"""By the file that tells a folder."""


def read_texts(path: Path, test: Path | None, level: Level, size: int | None) -> tuple[str, Tensor, Tensor, int]:
    """(name, training tokens, test tokens, size of the vocabulary).

    Raises: FileNotFoundError for a folder that is none of `CORPORA`; ValueError for options that the text leaves no
    room for, and as the readers.
    """
    if path.is_dir():
        found = next((entry for file, entry in CORPORA.items() if (path / file).is_file()), None)
        if found is None:
            raise FileNotFoundError(f"{path}: no corpus is in this folder; put in it {' or '.join(CORPORA)}")
        if test is not None or size is not None:
            raise ValueError(f"{found[0]} comes with its test and vocabulary; leave --test and --vocabulary out")
        corpus = found[1](path, level)
        return found[0], corpus.train, corpus.test, len(corpus.vocabulary)
    if test is not None:
        corpus = read_corpus(path, test, test, level, size=size)
        return f"{path.stem} (tested on {test.stem})", corpus.train, corpus.test, len(corpus.vocabulary)
    if level == "character":
        if size is not None:
            raise ValueError("characters are all kept where the test is a part of the text; leave --vocabulary out")
        data = read_characters(path)
    else:
        data = read_words(path, MOST_WORDS if size is None else size)
    return path.stem, data.train, data.held_out, len(data.vocabulary)


MOST_WORDS = 10_000
"""Of one file, unless chosen: as many as the Penn Treebank of language models has."""
