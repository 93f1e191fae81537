# SPDX-License-Identifier: Apache-2.0
"""Texts in parts for language models: Penn Treebank and WikiText-2 as published, and any files, by words or characters.

Words lie between white space, as the published files have them, and the end of a line counts as "<eos>".
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor

from bittern._options import check_choice
from bittern.data.text import UNKNOWN, read_utf8

END = "<eos>"
Level = Literal["word", "character"]


@dataclass(frozen=True)
class Corpus:
    """Three texts as token numbers; int64 [length] each. vocabulary: the token of each number."""

    train: Tensor
    valid: Tensor
    test: Tensor
    vocabulary: tuple[str, ...]


def penn_treebank(folder: str | Path, level: Level = "word") -> Corpus:
    """The files ptb.train.txt, ptb.valid.txt and ptb.test.txt of a folder. Raises: as `read_corpus`."""
    return _of_folder(folder, "Penn Treebank", "ptb.{}.txt", level)


def wikitext2(folder: str | Path, level: Level = "word") -> Corpus:
    """The files wiki.train.tokens, wiki.valid.tokens and wiki.test.tokens of a folder. Raises: as `read_corpus`."""
    return _of_folder(folder, "WikiText-2", "wiki.{}.tokens", level)


def read_corpus(
    train: str | Path,
    valid: str | Path,
    test: str | Path,
    level: Level = "word",
    *,
    size: int | None = None,
    vocabulary: Sequence[str] | None = None,
) -> Corpus:
    """Three UTF-8 files as numbers of one vocabulary, that of `train` unless given, in the order of first appearance.

    size: keep so many tokens at most, the most frequent ones (ties in that order); others become "<unk>", which is one
    of them. A token of any part that is not in the vocabulary becomes "<unk>" where that has it.

    Raises: OSError; ValueError for an empty file, one that is not UTF-8, a vocabulary that is empty or names a token
    twice, one without "<unk>" that lacks a token, and a size below 2.
    """
    check_choice("read_corpus", "level", level, ("word", "character"))
    texts = [_tokens(path, level) for path in (train, valid, test)]
    known = _vocabulary(texts[0], size) if vocabulary is None else tuple(vocabulary)
    if size is not None and vocabulary is not None:
        raise ValueError("read_corpus: size chooses a vocabulary, which is given; leave one of them out")
    numbers = {token: i for i, token in enumerate(known)}
    if not known or len(numbers) != len(known):
        raise ValueError(f"read_corpus: a vocabulary names each token once; got {len(known)} with {len(numbers)} names")
    first, second, third = (
        _numbered(path, tokens, numbers) for path, tokens in zip((train, valid, test), texts, strict=True)
    )
    return Corpus(first, second, third, known)


def _of_folder(folder: str | Path, name: str, pattern: str, level: Level) -> Corpus:
    paths = [Path(folder) / pattern.format(part) for part in ("train", "valid", "test")]
    for path in paths:
        if not path.is_file():
            raise FileNotFoundError(
                f"{name}: {path} is missing; put {', '.join(p.name for p in paths)} into one folder"
            )
    train, valid, test = paths
    return read_corpus(train, valid, test, level)


def _tokens(path: str | Path, level: Level) -> list[str]:
    text = read_utf8(path)
    tokens = list(text) if level == "character" else [t for line in text.splitlines() for t in (*line.split(), END)]
    if len(tokens) < 2:
        raise ValueError(f"{path}: a text needs at least 2 tokens; it has {len(tokens)}; is it the right file?")
    return tokens


def _vocabulary(tokens: list[str], size: int | None) -> tuple[str, ...]:
    counts = Counter(tokens)
    if size is None or (size >= len(counts) and UNKNOWN in counts):
        return tuple(counts)
    if size < 2:
        raise ValueError(f"read_corpus: size must be at least 2; got {size}")
    del counts[UNKNOWN]
    kept = {token for token, _ in counts.most_common(size - 1)}
    return (*(token for token in counts if token in kept), UNKNOWN)


def _numbered(path: str | Path, tokens: list[str], numbers: dict[str, int]) -> Tensor:
    unknown = numbers.get(UNKNOWN)
    if unknown is None:
        missing = next((token for token in tokens if token not in numbers), None)
        if missing is not None:
            raise ValueError(
                f"{path}: {missing!r} is not in the vocabulary of {len(numbers)}, which has no {UNKNOWN!r} for it; "
                "give the vocabulary that belongs to the file, or a size"
            )
        return torch.tensor([numbers[token] for token in tokens])
    return torch.tensor([numbers.get(token, unknown) for token in tokens])
